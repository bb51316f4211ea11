// Package bench measures a pool of this process, real from end to end: server,
// scheduler and workers are those of production, only the jobs do nothing.
//
//	report, err := bench.Run(ctx, bench.Config{Dir: dir, Jobs: 20_000}, nil)
//
// It is what "lithify bench queue" runs, so that anybody can repeat the figures.
package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/natsd"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// Config says what is measured. Without a Server an embedded one stores in Dir,
// and every write is synced before it is answered.
type Config struct {
	Dir    string        // of the embedded server; it must not hold a store that is of worth
	Server *queue.Config // else: a server without a scheduler; the jobs of the benchmark stay there

	Jobs    int           // queued and drained; default DefaultJobs
	FanOut  int           // layers that one job fans out to; measured instead of all else if above zero
	Cancel  bool          // with FanOut: it is cancelled when half of the layers ran
	Slots   int           // of the worker; default DefaultSlots
	Rate    int           // jobs a second while dispatch is measured; default DefaultRate
	For     time.Duration // how long it is; default DefaultFor
	AckWait time.Duration // while a worker dies; default DefaultAckWait
	Log     *slog.Logger  // default: discards
}

const (
	// DefaultJobs take seconds, and long enough that the start does not count.
	DefaultJobs = 20_000
	// DefaultSlots keep both ends busy: a slot waits for the server most of its time.
	DefaultSlots = 256
	// DefaultRate is that of the target: p99 under 2 ms at 100 jobs a second.
	DefaultRate = 100
	DefaultFor  = 10 * time.Second
	// DefaultAckWait is shorter than a pool's, so that nobody waits for half a minute.
	DefaultAckWait = 5 * time.Second
	// idleSlots are free while dispatch is measured.
	idleSlots = 8
)

func (c Config) withDefaults() Config {
	c.Jobs = orDefault(c.Jobs, DefaultJobs)
	c.Slots = orDefault(c.Slots, DefaultSlots)
	c.Rate = orDefault(c.Rate, DefaultRate)
	c.For = orDefault(c.For, DefaultFor)
	c.AckWait = orDefault(c.AckWait, DefaultAckWait)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

func orDefault[T int | time.Duration](v, d T) T {
	if v > 0 {
		return v
	}
	return d
}

// Run measures one phase after the other and tells each as soon as it is known.
func Run(ctx context.Context, cfg Config, tell func(Phase)) (r Report, err error) {
	p := &pool{cfg: cfg.withDefaults(), arrivals: make(chan arrival, arrivalsBuffer)}
	if err := p.start(ctx); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	r.Machine = machine(p.cfg)
	tell(r.Machine)
	if p.cfg.FanOut > 0 && p.cfg.Cancel {
		if r.Cancel, err = p.cancel(ctx); err != nil {
			return r, fmt.Errorf("cancel: %w", err)
		}
		tell(r.Cancel)
		return r, nil
	}
	if p.cfg.FanOut > 0 {
		if r.FanOut, err = p.fanOut(ctx); err != nil {
			return r, fmt.Errorf("fan-out: %w", err)
		}
		tell(r.FanOut)
		return r, nil
	}
	if r.Dispatch, err = p.dispatch(ctx); err != nil {
		return r, fmt.Errorf("dispatch: %w", err)
	}
	tell(r.Dispatch)
	if r.Drain, err = p.drain(ctx); err != nil {
		return r, fmt.Errorf("drain: %w", err)
	}
	tell(r.Drain)
	if r.Restart, err = p.restart(ctx); err != nil {
		return r, fmt.Errorf("restart: %w", err)
	}
	tell(r.Restart)
	if r.Death, err = p.death(ctx); err != nil {
		return r, fmt.Errorf("worker death: %w", err)
	}
	tell(r.Death)
	return r, nil
}

// pool is what is measured, and a client of it.
type pool struct {
	cfg      Config
	srv      *natsd.Server // nil: somebody else's
	client   *queue.Client // of who submits
	arrivals chan arrival
}

// start starts the server and connects to it.
func (p *pool) start(ctx context.Context) (err error) {
	if p.cfg.Server == nil {
		if p.srv, err = natsd.Start(natsd.Config{Dir: p.cfg.Dir, InProcess: true, Log: p.cfg.Log}); err != nil {
			return err
		}
	}
	if p.client, err = p.connect(ctx, "submitter"); err == nil {
		err = p.client.Setup(ctx, 1)
	}
	if err != nil {
		err = errors.Join(err, p.stop())
	}
	return err
}

func (p *pool) stop() error {
	if p.client != nil {
		p.client.Close()
	}
	if p.srv == nil {
		return nil
	}
	return p.srv.Stop()
}

// connect makes a connection of its own for each service, as if it were another process.
func (p *pool) connect(ctx context.Context, name string) (*queue.Client, error) {
	var cfg queue.Config
	if p.srv != nil {
		cfg = p.srv.Client()
	} else {
		cfg = *p.cfg.Server
	}
	cfg.Name, cfg.Log = "bench-"+name, p.cfg.Log
	return queue.Connect(ctx, cfg)
}

// service is a running scheduler or worker.
type service struct {
	client *queue.Client
	cancel context.CancelFunc
	done   chan error
}

// run runs a service on a connection of its own until stop.
func (p *pool) run(ctx context.Context, name string, build func(*queue.Client) (func(context.Context) error, error)) (*service, error) {
	client, err := p.connect(ctx, name)
	if err != nil {
		return nil, err
	}
	f, err := build(client)
	if err != nil {
		client.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &service{client, cancel, make(chan error, 1)}
	go func() { s.done <- f(ctx) }()
	return s, nil
}

// stop ends a service and waits for it.
func (s *service) stop() error {
	s.cancel()
	err := <-s.done
	s.client.Close()
	return err
}

// scheduler runs one, and returns when it has read every record.
func (p *pool) scheduler(ctx context.Context, ackWait time.Duration) (*service, error) {
	ready := make(chan struct{})
	s, err := p.run(ctx, "scheduler", func(c *queue.Client) (func(context.Context) error, error) {
		return scheduler.New(c, p.validators(), scheduler.Config{AckWait: ackWait, Log: p.cfg.Log, Ready: func() { close(ready) }}).Run, nil
	})
	if err != nil {
		return nil, err
	}
	select {
	case <-ready:
		return s, nil
	case err := <-s.done:
		s.done <- err
		return nil, errors.Join(errors.New("scheduler ended early"), s.stop())
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), s.stop())
	}
}

func (p *pool) validators() scheduler.Validators {
	if p.cfg.FanOut > 0 {
		return fanoutValidators
	}
	return validators
}

func (p *pool) worker(ctx context.Context, name string, slots int, mux *jobs.Mux) (*service, error) {
	return p.run(ctx, name, func(c *queue.Client) (func(context.Context) error, error) {
		cfg := worker.Config{Name: "bench-" + name, Slots: slots, Grace: workerGrace, Log: p.cfg.Log}
		if name == victim {
			cfg.Log = nil // it has much to complain of
		}
		w, err := worker.New(c, mux, cfg)
		if err != nil {
			return nil, err
		}
		return w.Run, nil
	})
}

// workerGrace is short: what a worker of the benchmark runs when it is told to
// stop is of no worth.
const workerGrace = time.Second
