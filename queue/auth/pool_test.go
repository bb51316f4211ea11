package auth_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/auth"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// imageArgs is a kind whose jobs wait for those of the kind of pieceArgs.
type imageArgs struct {
	Pieces []string `json:"pieces"`
}

func (imageArgs) Kind() string    { return "image" }
func (imageArgs) Validate() error { return nil }

type pieceArgs struct {
	Digest string `json:"digest"`
}

func (pieceArgs) Kind() string    { return "piece" }
func (pieceArgs) Validate() error { return nil }
func (a pieceArgs) Identity() any { return a }

// otherArgs is a kind that a worker of the others knows nothing of.
type otherArgs struct {
	Secret string `json:"secret"`
}

func (otherArgs) Kind() string    { return "other" }
func (otherArgs) Validate() error { return nil }

var validators = scheduler.Validators{"image": jobs.Validator[imageArgs](), "piece": jobs.Validator[pieceArgs](), "other": jobs.Validator[otherArgs]()}

func class(kind string) jobs.Class {
	return jobs.Class{Kind: kind, OS: jobs.Any, Arch: jobs.Any, Feature: jobs.Any}
}

// pool is a server in this process that runs what Init wrote.
type pool struct {
	*queue.Client // the scheduler's
	t             *testing.T
	made          auth.Result
	cfg           auth.Config
	url           string
	log           *slog.Logger
}

func newPool(t *testing.T) *pool {
	t.Helper()
	t.Parallel()
	p := &pool{t: t, log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))}
	p.cfg = auth.Config{Dir: filepath.Join(t.TempDir(), "auth"), Hosts: []string{"localhost", "127.0.0.1"}, Store: t.TempDir(),
		Workers: []auth.Worker{
			{Name: "images", Classes: []jobs.Class{class("image"), class("piece")}, Submits: []string{"piece"}},
			{Name: "others", Classes: []jobs.Class{class("other")}},
		}}
	var err error
	if p.made, err = auth.Init(p.cfg); err != nil {
		t.Fatal(err)
	}
	p.url = serve(t, p.made.Servers[0])
	p.Client = p.connect(auth.SchedulerKey)
	return p
}

// serve runs a server with a configuration, but for its port.
func serve(t *testing.T, conf string) (url string) {
	t.Helper()
	opts, err := server.ProcessConfigFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	opts.Port, opts.NoSigs, opts.NoLog = server.RANDOM_PORT, true, true
	ns, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(patience) {
		t.Fatal("server not ready")
	}
	return "tls://" + ns.Addr().String()
}

const patience = 3 * time.Minute

// config is that of a client with a key of the pool's directory.
func (p *pool) config(key string) queue.Config {
	return queue.Config{URL: p.url, TLSCA: p.made.CA, NkeyFile: p.cfg.Path(key), KeysFile: p.cfg.Path(auth.PublicKeys), Name: key, Log: p.log.With("conn", key)}
}

func (p *pool) connect(key string) *queue.Client {
	p.t.Helper()
	c, err := queue.Connect(p.t.Context(), p.config(key))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(c.Close)
	return c
}

// run runs a service until the end of the test.
func (p *pool) run(f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(p.t.Context()))
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	p.t.Cleanup(sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Error(err)
		}
	}))
}

func (p *pool) scheduler() {
	p.run(scheduler.New(p.Client, validators, scheduler.Config{Log: p.log}).Run)
}

func (p *pool) worker(name string, m *jobs.Mux) {
	p.t.Helper()
	w, err := worker.New(p.connect(auth.WorkerKey(name)), m, worker.Config{Name: "w1", Slots: 2, Log: p.log})
	if err != nil {
		p.t.Fatal(err)
	}
	p.run(w.Run)
}

func (p *pool) submit(c *queue.Client, a jobs.Args) queue.Status {
	p.t.Helper()
	j, err := jobs.New(a, jobs.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	st, err := c.Submit(p.t.Context(), j)
	if err != nil {
		p.t.Fatal(err)
	}
	return st
}

func (p *pool) wait(c *queue.Client, id jobs.ID) queue.Status {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	st, err := c.Wait(ctx, id)
	if err != nil {
		p.t.Fatal(err)
	}
	return st
}

// images is what a worker of images runs: each waits for its pieces.
func images() *jobs.Mux {
	m := &jobs.Mux{}
	jobs.Handle(m, func(ctx context.Context, a imageArgs) (any, error) {
		var missing []jobs.Job
		sum := ""
		for _, d := range a.Pieces {
			j, err := jobs.New(pieceArgs{d}, jobs.Options{})
			if err != nil {
				return nil, err
			}
			var part string
			if child, ok := jobs.Children(ctx)[j.ID]; !ok {
				missing = append(missing, j)
			} else if err := child.Decode(&part); err != nil {
				return nil, jobs.Permanent(err)
			}
			sum += part
		}
		if len(missing) > 0 {
			return nil, jobs.Await(missing...)
		}
		return sum, nil
	})
	jobs.Handle(m, func(ctx context.Context, a pieceArgs) (any, error) {
		jobs.Event(ctx, "piece made")
		jobs.Log(ctx, []byte(a.Digest+" is doubled\n"))
		return a.Digest + a.Digest, nil
	})
	return m
}
