package index

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// sweepEvery is how often jobs are looked for that the pool has forgotten, of which it says
// nothing: that is days after their end.
const sweepEvery = time.Hour

// again is the pause after which a pool is asked once more that could not be read.
const again = 2 * time.Second

// sweepWithin bounds one: a stream that holds nothing gives nothing.
const sweepWithin = 10 * time.Minute

// Run reads all records and then each change, until ctx is done. A pool that has no streams
// yet is waited for.
func (x *Index) Run(ctx context.Context) error {
	for {
		g, gctx := errgroup.WithContext(ctx)
		g.Go(func() error { return x.follow(gctx) })
		g.Go(func() error { return x.sweep(gctx, sweepEvery) })
		err := g.Wait()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(again):
			x.log.WarnContext(ctx, "jobs are not followed, trying again", "error", err)
		}
	}
}

func (x *Index) follow(ctx context.Context) error {
	return x.read(ctx, func(ch queue.Change) bool { x.apply(ch); return true })
}

// read gives every record and then each change to f, until it has enough.
func (x *Index) read(ctx context.Context, f func(queue.Change) bool) error {
	for m, err := range x.client.Follow(ctx, queue.StreamState, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{queue.RunFilter}, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy}) {
		if err != nil {
			return err
		}
		ch, err := queue.DecodeChange(m)
		if errors.Is(err, queue.ErrUnreadable) { // a later version's: it is not shown
			x.log.Debug("unreadable record", "error", err)
			ch.Record = jobs.Record{}
		} else if err != nil {
			return err
		}
		if ch.Record.ID == "" && !ch.Last {
			continue
		}
		if !f(ch) {
			return nil
		}
	}
	return ctx.Err()
}

// sweep drops the jobs that are there no more, at each interval.
func (x *Index) sweep(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := x.sweepOnce(ctx); err != nil {
			return err
		}
	}
}

// sweepOnce reads all records beside follow. What it has not met, and did not change since
// it began, is gone; if a record slipped through because it changed just then, follow brings
// it back.
func (x *Index) sweepOnce(ctx context.Context) error {
	number, start := x.beginSweep()
	if start == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, sweepWithin, errSlow)
	defer cancel()
	err := x.read(ctx, func(ch queue.Change) bool { x.meet(ch.Record.ID, number); return !ch.Last })
	if errors.Is(context.Cause(ctx), errSlow) {
		return nil
	}
	if err == nil {
		x.dropUnseen(number, start)
	}
	return err
}

var errSlow = errors.New("sweep takes too long")

func (x *Index) beginSweep() (number uint8, start uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.rows) > 0 {
		start = x.rows[len(x.rows)-1].revision
	}
	x.sweeps++
	return x.sweeps, start
}

func (x *Index) meet(id jobs.ID, number uint8) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i, ok := x.at[id]; ok {
		x.rows[i].seen = number
	}
}

func (x *Index) dropUnseen(number uint8, start uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, r := range x.rows {
		if r.id != "" && r.seen != number && r.revision <= start {
			x.drop(r.id)
			x.version++
		}
	}
}
