package queue

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// followIdle lets the server drop the consumer of a reader that vanished.
const followIdle = time.Minute

// Follow reads a stream from cfg's start on, and then what is added, until ctx
// is done or the loop is left. It goes on where it was after any disconnection;
// an error ends it.
func (c *Client) Follow(ctx context.Context, stream string, cfg jetstream.OrderedConsumerConfig) iter.Seq2[jetstream.Msg, error] {
	cfg.InactiveThreshold, cfg.MaxResetAttempts = followIdle, 1
	return func(yield func(jetstream.Msg, error) bool) {
		for {
			err := c.followOnce(ctx, stream, &cfg, yield)
			if errors.Is(err, errLeft) {
				return
			}
			if ctx.Err() != nil {
				yield(nil, ctx.Err())
				return
			}
			if errors.Is(err, jetstream.ErrStreamNotFound) || c.nc.IsClosed() {
				yield(nil, err)
				return
			}
			c.log.Debug("stream reader interrupted", "stream", stream, "error", err)
			c.pause(ctx)
		}
	}
}

var errLeft = errors.New("loop left")

// followOnce reads until an error, and moves cfg's start behind what it read.
func (c *Client) followOnce(ctx context.Context, stream string, cfg *jetstream.OrderedConsumerConfig, yield func(jetstream.Msg, error) bool) error {
	cons, err := c.js.OrderedConsumer(ctx, stream, *cfg)
	if err != nil {
		return err
	}
	it, err := cons.Messages()
	if err != nil {
		return err
	}
	defer it.Stop()
	for {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		md, err := m.Metadata()
		if err != nil {
			return err
		}
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, md.Sequence.Stream+1
		if !yield(m, nil) {
			return errLeft
		}
	}
}
