package bench

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// dispatch measures how long a job takes from its submission to its handler while
// workers are idle.
func (p *pool) dispatch(ctx context.Context) (d Dispatch, err error) {
	s, err := p.scheduler(ctx, 0)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	w, err := p.worker(ctx, "idle", idleSlots, p.mux("idle"))
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, w.stop()) }()

	d.Rate, d.Jobs = p.cfg.Rate, max(int(p.cfg.For.Seconds()*float64(p.cfg.Rate)), 1)
	if err := p.warm(ctx); err != nil {
		return d, err
	}
	over := make(chan struct{})
	called, acked := make([]time.Time, d.Jobs), make([]time.Time, d.Jobs)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.pace(gctx, called, acked) })
	started := make([]time.Time, d.Jobs)
	g.Go(func() error {
		defer close(over)
		return p.collect(gctx, d.Jobs, func(a arrival) { started[a.N] = a.at })
	})
	if p.srv != nil {
		g.Go(func() (err error) { d.Syncs, err = syncs(p.cfg.Dir, over); return err })
	}
	if err := g.Wait(); err != nil {
		return d, err
	}
	d.FromAck, d.FromCall = spread(acked, started), spread(called, started)
	return d, nil
}

// syncs measures what no dispatch can be quicker than: two writes of a few hundred
// bytes, each of which is on the disk before the next, as a job's message and its claim
// are. It is measured beside the jobs, a tenth as often as they come at the default
// rate, until over is closed.
func syncs(dir string, over <-chan struct{}) (s Spread, err error) {
	f, err := os.CreateTemp(dir, "sync-*")
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	var from, to []time.Time
	tick := time.NewTicker(10 * time.Second / DefaultRate)
	defer tick.Stop()
	for block := make([]byte, 400); ; {
		from = append(from, time.Now())
		for range 2 {
			if _, err := f.Write(block); err != nil {
				return s, err
			}
			if err := f.Sync(); err != nil {
				return s, err
			}
		}
		to = append(to, time.Now())
		select {
		case <-tick.C:
		case <-over:
			return spread(from, to), nil
		}
	}
}

// warm runs one job through the pool: the class then has its consumer and the
// worker waits at it.
func (p *pool) warm(ctx context.Context) error {
	if err := p.submitOne(ctx, noop{}); err != nil {
		return err
	}
	return p.collect(ctx, 1, func(arrival) {})
}

// pace submits one job after the other at the rate, whether or not those before
// are acknowledged yet: a slow one must not hide in the ones it holds up.
func (p *pool) pace(ctx context.Context, called, acked []time.Time) error {
	tick := time.NewTicker(time.Second / time.Duration(p.cfg.Rate))
	defer tick.Stop()
	g, ctx := errgroup.WithContext(ctx)
	for i := range called {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), g.Wait())
		}
		g.Go(func() error {
			called[i] = time.Now()
			err := p.submitOne(ctx, noop{N: i})
			acked[i] = time.Now()
			return err
		})
	}
	return g.Wait()
}

func (p *pool) submitOne(ctx context.Context, a noop) error {
	j, err := newJob(a)
	if err != nil {
		return err
	}
	_, err = p.client.Submit(ctx, j)
	return err
}

// collect takes n jobs' first arrivals; a job that comes again does not count.
func (p *pool) collect(ctx context.Context, n int, each func(arrival)) error {
	seen := map[int]bool{}
	for len(seen) < n {
		select {
		case a := <-p.arrivals:
			if !seen[a.N] {
				seen[a.N] = true
				each(a)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// spread is the distribution of the times from a to b. A handler may start before
// the submission's answer has come back: that is no time at all.
func spread(a, b []time.Time) (s Spread) {
	d := make([]time.Duration, len(a))
	for i := range a {
		d[i] = max(b[i].Sub(a[i]), 0)
	}
	slices.Sort(d)
	at := func(q float64) time.Duration { return d[min(int(q*float64(len(d))), len(d)-1)] }
	return Spread{P50: at(0.5), P99: at(0.99), Max: d[len(d)-1]}
}
