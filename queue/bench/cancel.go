package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// cancel has one job fan out, and cancels it when half of the layers ran.
func (p *pool) cancel(ctx context.Context) (c Cancel, err error) {
	f, err := p.fan(ctx, p.cfg.images())
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, f.scheduler.stop()) }()
	stopWorker := sync.OnceValue(f.worker.stop)
	defer func() { err = errors.Join(err, stopWorker()) }()
	c.Layers = len(f.layers)

	// What is explained meanwhile is a job that nobody cancels.
	bystander, err := jobs.New(layer{N: c.Layers}, jobs.Options{NotBefore: time.Now().Add(time.Hour), Submitter: "bench"})
	if err != nil {
		return c, err
	}
	if _, err := p.client.SubmitAll(ctx, []jobs.Job{bystander, f.root}); err != nil {
		return c, err
	}
	select {
	case <-f.half:
	case <-ctx.Done():
		return c, ctx.Err()
	}
	began := time.Now()
	if _, err := p.client.Cancel(ctx, f.root.ID, "half is enough"); err != nil {
		return c, err
	}
	g, gctx := errgroup.WithContext(ctx)
	asking, stopAsking := context.WithCancel(gctx)
	g.Go(func() error { return p.askWhy(asking, bystander.ID, &c) })
	g.Go(func() error {
		defer stopAsking()
		ended, n, err := p.untilCancelled(gctx, bystander.ID, stopWorker)
		c.Took, c.Cancelled = ended.Sub(began), n
		return err
	})
	if err := g.Wait(); err != nil {
		return c, err
	}
	for i := range f.layers {
		if n := f.layers[i].Load(); n > 1 {
			return c, fmt.Errorf("layer %d ran %d times", i, n)
		}
	}
	c.Ran = int(f.ran.Load())
	return c, nil
}

// untilCancelled waits until all but the bystander has ended, and stays so without a
// worker. It gives when that was, and how many jobs were cancelled.
func (p *pool) untilCancelled(ctx context.Context, bystander jobs.ID, stopWorker func() error) (at time.Time, cancelled int, err error) {
	open, stopped := map[jobs.ID]bool{}, false
	caughtUp := false
	for ch, err := range p.client.FollowRecords(ctx, queue.Mark{}) {
		if err != nil {
			return at, 0, err
		}
		r := ch.Record
		caughtUp = caughtUp || ch.Last
		if r.ID != bystander {
			at = time.Now()
		}
		if delete(open, r.ID); !r.State.Ended() {
			open[r.ID] = true
		}
		if r.State == jobs.Cancelled && r.ID != bystander {
			cancelled++
		}
		switch {
		case caughtUp && !stopped && len(open) == 1:
			stopped = true
			if err := stopWorker(); err != nil {
				return at, 0, err
			}
			if _, err := p.client.Cancel(ctx, bystander, "it was only looked at"); err != nil {
				return at, 0, err
			}
		case stopped && len(open) == 0:
			return at, cancelled, nil
		}
	}
	return at, 0, ctx.Err()
}

// askEvery is how often somebody wants to know.
const askEvery = 100 * time.Millisecond

// askWhy has a job explained until ctx is done, and notes how long that takes at most.
func (p *pool) askWhy(ctx context.Context, id jobs.ID, c *Cancel) error {
	for tick := time.Tick(askEvery); ; {
		began := time.Now()
		x, err := p.client.Explain(ctx, id)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		c.Explained = max(c.Explained, time.Since(began))
		if x.Reasons[0].Code == queue.ReasonNoScheduler {
			c.Unexplained++
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
		}
	}
}
