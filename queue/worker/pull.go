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
}

// pull takes messages of one class while there are free slots, no more than these,
// so that none waits here while another worker is idle. It returns when ctx is done.
func (w *Worker) pull(ctx context.Context, c jobs.Class, start func(delivery)) {
	for ctx.Err() == nil {
		err := w.pullFrom(ctx, c, start)
		if ctx.Err() != nil {
			return
		}
		w.log.Debug("class not pulled", "class", c, "error", err)
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
func (w *Worker) pullFrom(ctx context.Context, c jobs.Class, start func(delivery)) error {
	cons, err := w.client.JetStream().Consumer(ctx, queue.StreamWork, queue.ConsumerName(c))
	if err != nil {
		return err
	}
	for w.waitFit(ctx) {
		m, err := cons.Next(jetstream.FetchMaxWait(pullExpiry))
		if errors.Is(err, nats.ErrTimeout) && w.client.Connected() {
			continue
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil || w.takeSlots(1) == 0 { // or another class took the last one meanwhile
			if err := m.Nak(); err != nil {
				return err
			}
			continue
		}
		ackWait := cons.CachedInfo().Config.AckWait
		run := func(m jetstream.Msg) error {
			md, err := m.Metadata()
			if err == nil {
				start(delivery{m, md.Sequence.Stream, ackWait})
			}
			return err
		}
		if err := run(m); err != nil {
			w.freeSlots(1)
			return err
		}
		if err := w.pullMore(ctx, cons, run); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// pullMore fills the free slots as long as there are messages for all of them. It
// takes the slots first, for as long as a pull takes that does not wait.
func (w *Worker) pullMore(ctx context.Context, cons jetstream.Consumer, run func(jetstream.Msg) error) error {
	for ctx.Err() == nil {
		free := w.takeSlots(maxPull)
		if free == 0 {
			return nil
		}
		batch, err := cons.FetchNoWait(free)
		if err != nil {
			w.freeSlots(free)
			return err
		}
		for m := range batch.Messages() {
			if err = run(m); err == nil {
				free--
			}
		}
		w.freeSlots(free)
		if err := errors.Join(err, batch.Error()); err != nil || free > 0 {
			return err
		}
	}
	return nil
}

// maxPull bounds one pull: its messages are taken in turn, and the last one must not
// lose its ack wait here.
const maxPull = 100

// takeSlots takes up to n of the free slots and says how many.
func (w *Worker) takeSlots(n int) (taken int) {
	for ; taken < n; taken++ {
		select {
		case <-w.slots:
		default:
			return taken
		}
	}
	return taken
}

func (w *Worker) freeSlots(n int) {
	for range n {
		w.slots <- struct{}{}
	}
}

// waitFit waits until there is a free slot and the worker lacks nothing. It
// takes no slot: the pull may last long and bring nothing. It returns false if
// ctx ends first.
func (w *Worker) waitFit(ctx context.Context) bool {
	for ctx.Err() == nil { // first: a free slot must not win against the end of ctx
		if d := time.Until(time.Unix(0, w.unfit.Load())); d > 0 {
			select {
			case <-time.After(d):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case <-w.slots:
			w.slots <- struct{}{}
			return true
		case <-ctx.Done():
		}
	}
	return false
}
