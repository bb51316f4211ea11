package bench

import (
	"context"
	"errors"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// drain is the method of River's "river bench": queue all jobs while nobody works,
// then let workers that do nothing burn them down.
func (p *pool) drain(ctx context.Context) (d Drain, err error) {
	d.Jobs, d.Slots = p.cfg.Jobs, p.cfg.Slots
	began := time.Now()
	if err := p.insert(ctx, d.Jobs); err != nil {
		return d, err
	}
	d.Inserted = perSecond(d.Jobs, time.Since(began))

	before := liveHeap()
	s, err := p.scheduler(ctx, 0)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	d.SchedulerHeap = max(liveHeap()-before, 0)

	began = time.Now()
	w, err := p.worker(ctx, "drain", d.Slots, p.mux("drain"))
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	counted, stopDepth := context.WithCancel(ctx)
	defer stopDepth()
	var g errgroup.Group
	g.Go(func() error { return p.watchDepth(counted, &d.WorkDepth) })
	err = p.collect(ctx, d.Jobs, func(arrival) {})
	if err == nil {
		err = p.untilEmpty(ctx)
	}
	d.Drained = perSecond(d.Jobs, time.Since(began))
	stopDepth()
	d.RSS = rss()
	return d, errors.Join(err, g.Wait())
}

// insertPart jobs are made before they are submitted together.
const insertPart = 10_000

func (p *pool) insert(ctx context.Context, n int) error {
	js := make([]jobs.Job, 0, min(n, insertPart))
	for i := range n {
		j, err := newJob(noop{N: i})
		if err != nil {
			return err
		}
		if js = append(js, j); len(js) == insertPart || i == n-1 {
			if _, err := p.client.SubmitAll(ctx, js); err != nil {
				return err
			}
			js = js[:0]
		}
	}
	return nil
}

// depthEvery is how often WORK is asked how long it is.
const depthEvery = 50 * time.Millisecond

func (p *pool) watchDepth(ctx context.Context, most *uint64) error {
	for tick := time.Tick(depthEvery); ; {
		n, err := p.depth(ctx)
		*most = max(*most, n)
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
			if err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// untilEmpty waits until the last message is acknowledged, and so the last result
// committed.
func (p *pool) untilEmpty(ctx context.Context) error {
	for tick := time.Tick(time.Millisecond); ; {
		if n, err := p.depth(ctx); err != nil || n == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick:
		}
	}
}

func (p *pool) depth(ctx context.Context) (uint64, error) {
	s, err := p.client.JetStream().Stream(ctx, queue.StreamWork)
	if err != nil {
		return 0, err
	}
	return s.CachedInfo().State.Msgs, nil
}

func perSecond(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }

// liveHeap is what this process holds: a part of it is found by taking it before
// and after.
func liveHeap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
