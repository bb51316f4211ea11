package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/natsd"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// testArgs is a kind for these tests; what a job does is its handler's business.
type testArgs struct {
	Name string `json:"name"`
}

func (testArgs) Kind() string { return "test" }
func (a testArgs) Validate() error {
	if a.Name == "invalid" {
		return errors.New("invalid name")
	}
	return nil
}

type pureArgs struct {
	Digest string `json:"digest"`
}

func (pureArgs) Kind() string    { return "pure" }
func (pureArgs) Validate() error { return nil }
func (a pureArgs) Identity() any { return a }

var validators = scheduler.Validators{"test": jobs.Validator[testArgs](), "pure": jobs.Validator[pureArgs]()}

const (
	// calm is an AckWait that no stall of the machine exceeds: nothing in these
	// tests may wait for it.
	calm = time.Hour
	// lease is one that ends within a test's patience. A slow disk can end it
	// early: its tests allow for another attempt.
	lease = time.Second
)

// pool is a real server in this process, and a client.
type pool struct {
	*queue.Client
	t   *testing.T
	cfg natsd.Config
	srv *natsd.Server
	log *slog.Logger
}

func newPool(t *testing.T) *pool {
	t.Helper()
	t.Parallel()
	return startPool(t)
}

// startPool is for a test that has a pool already.
func startPool(t *testing.T) *pool {
	t.Helper()
	p := &pool{t: t, log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))}
	dir := t.TempDir()
	p.cfg = natsd.Config{Dir: filepath.Join(dir, "store"), ContextFile: filepath.Join(dir, "context.json"), Version: "test"}
	p.start()
	t.Cleanup(p.stop)
	p.Client = p.connect("test")
	return p
}

func (p *pool) start() {
	p.t.Helper()
	srv, err := natsd.Start(p.cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	p.srv = srv
}

func (p *pool) stop() {
	if err := p.srv.Stop(); err != nil {
		p.t.Error(err)
	}
}

// connect goes through the socket, as other processes do.
func (p *pool) connect(name string) *queue.Client {
	p.t.Helper()
	c, err := queue.Connect(p.t.Context(), queue.Config{ContextFile: p.cfg.ContextFile, Name: name, Log: p.log.With("conn", name)})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(c.Close)
	return c
}

// run runs a service until stop, which is also called at the end of the test.
func (p *pool) run(name string, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(p.t.Context()))
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Errorf("%s: %v", name, err)
		}
	})
	p.t.Cleanup(stop)
	return stop
}

func (p *pool) scheduler(cfg scheduler.Config) (stop func()) {
	cfg.Log = p.log.With("service", "scheduler")
	if cfg.AckWait == 0 {
		cfg.AckWait = calm
	}
	return p.run("scheduler", scheduler.New(p.connect("scheduler"), validators, cfg).Run)
}

func (p *pool) worker(m *jobs.Mux, cfg worker.Config) (stop func()) {
	p.t.Helper()
	cfg.Log = p.log
	if cfg.Slots == 0 {
		cfg.Slots = 2
	}
	w, err := worker.New(p.connect(cfg.Name), m, cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.run("worker", w.Run)
}

// handle is a mux with one handler for testArgs.
func handle(h jobs.Handler[testArgs]) *jobs.Mux {
	var m jobs.Mux
	jobs.Handle(&m, h)
	return &m
}

func (p *pool) submit(a jobs.Args, o jobs.Options) queue.Status {
	p.t.Helper()
	j, err := jobs.New(a, o)
	if err != nil {
		p.t.Fatal(err)
	}
	st, err := p.Submit(p.t.Context(), j)
	if err != nil {
		p.t.Fatal(err)
	}
	return st
}

// patience is far above what any test needs on a loaded machine.
const patience = 3 * time.Minute

func (p *pool) wait(id jobs.ID) queue.Status {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	st, err := p.Wait(ctx, id)
	if err != nil {
		p.t.Fatal(err)
	}
	return st
}

func (p *pool) waitState(id jobs.ID, want jobs.State) queue.Status {
	p.t.Helper()
	st := p.wait(id)
	if st.State != want {
		p.t.Fatalf("job %s is %s (%+v), want %s", id, st.State, st.Failure, want)
	}
	return st
}

// await receives from a channel that a handler closes or sends to.
func await[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s", what)
		panic("unreachable")
	}
}

func result[T any](t *testing.T, st queue.Status) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(st.Result, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// until asks a real server until it says so: for what sends no event.
func (p *pool) until(what string, ok func() bool) {
	p.t.Helper()
	for tick, end := time.Tick(5*time.Millisecond), time.After(patience); ; {
		if ok() {
			return
		}
		select {
		case <-tick:
		case <-end:
			p.t.Fatalf("no %s", what)
		}
	}
}

// bulk is the line of a class that jobs are in unless they say otherwise.
func bulk(c jobs.Class) queue.Line { return queue.Line{Priority: jobs.Bulk, Class: c} }

// inWork reports whether a job's message is in WORK.
func (p *pool) inWork(id jobs.ID) bool {
	p.t.Helper()
	s, err := p.JetStream().Stream(p.t.Context(), queue.StreamWork)
	if err != nil {
		return false
	}
	info, err := s.Info(p.t.Context(), jetstream.WithSubjectFilter("w.>"))
	if err != nil {
		p.t.Fatal(err)
	}
	for subject := range info.State.Subjects {
		if strings.HasSuffix(subject, string(id)) {
			return true
		}
	}
	return false
}
