package worker

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

const (
	// A consumer that was paused does not wake pulls that already wait; short
	// pulls find that out soon.
	pullExpiry    = 5 * time.Second
	pullHeartbeat = 2 * time.Second
	// pullRetry is the pause when the class has no consumer yet or the server is away.
	pullRetry = 250 * time.Millisecond
)

// delivery is a message that has a slot.
type delivery struct {
	jetstream.Msg
	ackWait time.Duration
}

// pull takes messages of one class while there are free slots, one at a time, so
// that none waits here while another worker is idle. It returns when ctx is done.
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

func (w *Worker) pullFrom(ctx context.Context, c jobs.Class, start func(delivery)) error {
	cons, err := w.client.JetStream().Consumer(ctx, queue.StreamWork, queue.ConsumerName(c))
	if err != nil {
		return err
	}
	it, err := cons.Messages(jetstream.PullMaxMessages(1), jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(pullHeartbeat),
		jetstream.WithMessagesErrOnMissingHeartbeat(false))
	if err != nil {
		return err
	}
	// A message that is on its way when ctx ends must not be lost until its
	// AckWait: Drain lets Next give it out before it ends.
	stop := context.AfterFunc(ctx, it.Drain)
	defer func() { stop(); it.Stop() }()
	for {
		if !w.waitFit(ctx) {
			it.Drain()
		}
		m, err := it.Next()
		if err != nil {
			return err
		}
		select {
		case <-w.slots:
		default: // another class took the last slot meanwhile
			if err := m.Nak(); err != nil {
				return err
			}
			continue
		}
		if ctx.Err() != nil {
			w.slots <- struct{}{}
			return errors.Join(ctx.Err(), m.Nak())
		}
		start(delivery{m, cons.CachedInfo().Config.AckWait})
	}
}

// waitFit waits until there is a free slot and the worker lacks nothing. It
// takes no slot: the pull may last long and bring nothing. It returns false if
// ctx ends first.
func (w *Worker) waitFit(ctx context.Context) bool {
	for {
		if d := time.Until(time.Unix(0, w.unfit.Load())); d > 0 {
			select {
			case <-time.After(d):
				continue
			case <-ctx.Done():
				return false
			}
		}
		select {
		case <-w.slots:
			w.slots <- struct{}{}
			return true
		case <-ctx.Done():
			return false
		}
	}
}
