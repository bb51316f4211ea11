// Package worker pulls jobs of some classes and runs their handlers.
//
// For each message: read the record; if the job has ended, ack. Claim it by
// compare-and-set, run the handler under a heartbeat, commit the result by
// compare-and-set from the claim, and only then ack. A worker that finds its
// claim gone stops the handler and neither acks nor naks: JetStream's acks are
// not fenced, and the message is another worker's.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// Config's zero value works.
type Config struct {
	Name    string        // unique; default host-xxxxxxxx
	Slots   int           // jobs at a time; default GOMAXPROCS
	Reserve int           // slots beside those that only interactive jobs use; default a tenth of Slots, at least 1
	Node    string        // the machine's name, to which jobs may be bound; default the host's
	Labels  queue.Labels  // of the machine
	Kinds   []string      // of the jobs to take; default all that have a handler
	Classes []jobs.Class  // default: those of its key, else all that this machine can serve
	More    []jobs.Class  // that this machine can serve beside those of its own system and architecture
	Grace   time.Duration // for running jobs when the worker stops; default DefaultGrace
	Silence time.Duration // longest time without proof of life; default DefaultSilence
	Version string
	Log     *slog.Logger // default: discards
}

const (
	// DefaultGrace fits into the 30 s that systemd and Kubernetes wait.
	DefaultGrace = 20 * time.Second
	// DefaultSilence is far above a slow disk and far below a user's patience.
	DefaultSilence = time.Minute
	// reserveShare of the slots are reserved: somebody waits for an interactive job.
	reserveShare = 10
	// handBack is the time, after Grace, to write what is left.
	handBack = 5 * time.Second
	// unfit is how long a worker that lacks a resource takes no jobs.
	unfit = 30 * time.Second
)

// Classes are the classes that this machine serves by default: each of these kinds
// for any platform, for this system, and for this system and architecture.
func Classes(kinds []string) []jobs.Class {
	var cs []jobs.Class
	for _, k := range kinds {
		cs = append(cs, jobs.Class{Kind: k, OS: jobs.Any, Arch: jobs.Any, Feature: jobs.Any},
			jobs.Class{Kind: k, OS: runtime.GOOS, Arch: jobs.Any, Feature: jobs.Any},
			jobs.Class{Kind: k, OS: runtime.GOOS, Arch: runtime.GOARCH, Feature: jobs.Any})
	}
	return cs
}

// served are the classes of a mux: those of kinds that are bound to a node are of this one.
func served(m *jobs.Mux, node string) (cs []jobs.Class) {
	for _, k := range m.Kinds() {
		if m.Bound(k) {
			cs = append(cs, jobs.NodeClass(k, node))
		} else {
			cs = append(cs, Classes([]string{k})...)
		}
	}
	return cs
}

// classes are those of this machine, or those that the pool has this worker's key
// serve.
func classes(c *queue.Client, m *jobs.Mux, node string, more []jobs.Class) (cs []jobs.Class) {
	if len(c.Classes()) == 0 {
		cs = served(m, node)
		return append(cs, slices.DeleteFunc(slices.Clone(more), func(k jobs.Class) bool { return slices.Contains(cs, k) })...)
	}
	for _, k := range c.Classes() {
		if slices.Contains(m.Kinds(), k.Kind) {
			cs = append(cs, k)
		}
	}
	return cs
}

// only leaves the classes of the kinds that are to be taken.
func (cfg *Config) only(handled []string) error {
	if len(cfg.Kinds) == 0 {
		return nil
	}
	for _, k := range cfg.Kinds {
		if !slices.Contains(handled, k) {
			return fmt.Errorf("worker: jobs of kind %q cannot be taken here, those of %v can", k, handled)
		}
	}
	cfg.Classes = slices.DeleteFunc(slices.Clone(cfg.Classes), func(c jobs.Class) bool { return !slices.Contains(cfg.Kinds, c.Kind) })
	return nil
}

// Worker is the service; make it with New.
type Worker struct {
	client  *queue.Client
	mux     *jobs.Mux
	cfg     Config
	log     *slog.Logger
	metrics metrics
	started time.Time

	slots    *slots
	unfit    atomic.Int64 // unix nanoseconds until which no job is taken
	restored atomic.Int64 // unix nanoseconds when the connection last came back
	draining atomic.Bool
	changed  chan struct{} // running or draining changed: announce

	mu      sync.Mutex
	running map[jobs.ID]queue.RunningJob
	kept    map[jobs.ID]uint64 // claims that heartbeats prolong
}

// New makes a worker that has not started.
func New(c *queue.Client, m *jobs.Mux, cfg Config) (*Worker, error) {
	var err error
	if cfg.Name, err = queue.Named(cfg.Name); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	if account := c.Account(); account != "" {
		cfg.Name = account + "." + cfg.Name // no other account may announce such a name
	}
	if cfg.Node == "" {
		if cfg.Node, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("worker: %w", err)
		}
	}
	if cfg.Slots <= 0 {
		cfg.Slots = runtime.GOMAXPROCS(0)
	}
	if cfg.Reserve <= 0 {
		cfg.Reserve = max(cfg.Slots/reserveShare, 1)
	}
	if len(cfg.Classes) == 0 {
		cfg.Classes = classes(c, m, cfg.Node, cfg.More)
	}
	if err := cfg.only(m.Kinds()); err != nil {
		return nil, err
	}
	if cfg.Grace <= 0 {
		cfg.Grace = DefaultGrace
	}
	if cfg.Silence <= 0 {
		cfg.Silence = DefaultSilence
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	w := &Worker{client: c, mux: m, cfg: cfg, log: cfg.Log.With("worker", cfg.Name), started: time.Now().UTC(),
		changed: make(chan struct{}, 1), running: map[jobs.ID]queue.RunningJob{}, kept: map[jobs.ID]uint64{}}
	w.slots = newSlots(cfg.Slots, cfg.Reserve, w.pending)
	w.metrics, err = newMetrics()
	return w, err
}

// Why the context of a handler was cancelled: context.Cause(ctx).
var (
	ErrLost     = errors.New("claim lost: the job was cancelled or is another worker's")
	ErrStalled  = errors.New("no proof of life")
	ErrDraining = errors.New("worker stops")
	ErrDeadline = errors.New("deadline passed")
)

// Run works until ctx is done. Then it takes no more jobs, lets the running ones
// finish within Grace, and hands back the others. It returns an error if a
// handler did not stop even then; its message comes again after AckWait.
func (w *Worker) Run(ctx context.Context) error {
	// Running jobs outlive ctx: first by Grace, and then their last writes.
	work, stopWork := context.WithCancelCause(context.WithoutCancel(ctx))
	writes, stopWrites := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork(nil)
	defer stopWrites()
	defer context.AfterFunc(ctx, func() { w.draining.Store(true); w.touch() })()

	var running sync.WaitGroup
	var g errgroup.Group
	for _, c := range w.cfg.Classes {
		for _, l := range queue.Lines(c) {
			g.Go(func() error {
				w.pull(ctx, l, func(d delivery) { running.Go(func() { w.handle(work, writes, d) }) })
				return nil
			})
		}
	}
	announced, stopAnnounce := context.WithCancel(writes)
	var announcer sync.WaitGroup
	announcer.Go(func() { w.announce(announced) })
	announcer.Go(func() { w.watchConnection(announced) })
	defer announcer.Wait()
	defer stopAnnounce()

	<-ctx.Done()
	g.Wait() // the pullers return no error
	idle := make(chan struct{})
	go func() { running.Wait(); close(idle) }()
	for _, step := range []struct {
		wait time.Duration
		then func()
	}{{w.cfg.Grace, func() { stopWork(ErrDraining) }}, {handBack, stopWrites}, {time.Second, func() {}}} {
		select {
		case <-idle:
			return nil
		case <-time.After(step.wait):
			step.then()
		}
	}
	return fmt.Errorf("worker %s: handlers of %v did not stop", w.cfg.Name, w.runningIDs())
}

func (w *Worker) runningIDs() (ids []jobs.ID) {
	for _, j := range w.snapshot() {
		ids = append(ids, j.ID)
	}
	return ids
}
