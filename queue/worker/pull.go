package worker

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

const (
	// pullExpiry is short: a pull ends neither with the worker nor with the
	// connection, and a consumer that was paused does not wake those that wait.
	pullExpiry = time.Second
	// pullRetry is the pause when the class has no consumer yet or the server is away.
	pullRetry = 250 * time.Millisecond
)

// delivery is a message that has a slot.
type delivery struct {
	jetstream.Msg
	sequence uint64 // in WORK
	ackWait  time.Duration
	slot     chan<- struct{} // to give back
}

// pull takes messages of one line while there are free slots, no more than these, so
// that none waits here while another worker is idle. It returns when ctx is done.
func (w *Worker) pull(ctx context.Context, l queue.Line, start func(delivery)) {
	for ctx.Err() == nil {
		err := w.pullFrom(ctx, l, start)
		if ctx.Err() != nil {
			return
		}
		w.log.Debug("line not pulled", "line", l, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pullRetry):
		}
	}
}

// pullFrom waits for one message, and takes those that are there behind it with one
// more pull, which does not wait. (An iterator of
// package jetstream pulls anew after a reconnection, and may then hold a second
// message for which there is no slot, or drop it: its buffer is as large as the
// pull and a status message takes up room, too.)
func (w *Worker) pullFrom(ctx context.Context, l queue.Line, start func(delivery)) error {
	cons, err := w.client.JetStream().Consumer(ctx, queue.StreamWork, l.Consumer())
	if err != nil {
		return err
	}
	for w.waitFit(ctx, l.Priority) {
		m, err := cons.Next(jetstream.FetchMaxWait(pullExpiry))
		if errors.Is(err, nats.ErrTimeout) && w.client.Connected() {
			continue
		}
		if err != nil {
			return err
		}
		w.slots.came(l)
		slot := w.slots.take(l.Priority, 1)
		if ctx.Err() != nil || len(slot) == 0 { // or another line took the last one meanwhile
			release(slot)
			if err := m.Nak(); err != nil {
				return err
			}
			continue
		}
		ackWait := cons.CachedInfo().Config.AckWait
		run := func(m jetstream.Msg, slot chan<- struct{}) error {
			md, err := m.Metadata()
			if err == nil {
				start(delivery{m, md.Sequence.Stream, ackWait, slot})
			}
			return err
		}
		if err := run(m, slot[0]); err != nil {
			release(slot)
			return err
		}
		if err := w.pullMore(ctx, cons, l.Priority, run); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// pullMore fills the free slots as long as there are messages for all of them. It
// takes the slots first, for as long as a pull takes that does not wait.
func (w *Worker) pullMore(ctx context.Context, cons jetstream.Consumer, p jobs.Priority, run func(jetstream.Msg, chan<- struct{}) error) error {
	for ctx.Err() == nil {
		free := w.slots.take(p, maxPull)
		if len(free) == 0 {
			return nil
		}
		batch, err := cons.FetchNoWait(len(free))
		if err != nil {
			release(free)
			return err
		}
		for m := range batch.Messages() {
			if err = run(m, free[0]); err == nil {
				free = free[1:]
			}
		}
		release(free)
		if err := errors.Join(err, batch.Error()); err != nil || len(free) > 0 {
			return err
		}
	}
	return nil
}

// maxPull bounds one pull: its messages are taken in turn, and the last one must not
// lose its ack wait here.
const maxPull = 100

// pending reports whether messages wait in a line.
func (w *Worker) pending(ctx context.Context, l queue.Line) bool {
	cons, err := w.client.JetStream().Consumer(ctx, queue.StreamWork, l.Consumer())
	return err == nil && cons.CachedInfo().NumPending > 0
}

// waitFit waits until there may be a free slot and the worker lacks nothing. It
// returns false if ctx ends first.
func (w *Worker) waitFit(ctx context.Context, p jobs.Priority) bool {
	for ctx.Err() == nil { // first: a free slot must not win against the end of ctx
		d := time.Until(time.Unix(0, w.unfit.Load()))
		if d <= 0 {
			return w.slots.wait(ctx, p)
		}
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	return false
}
