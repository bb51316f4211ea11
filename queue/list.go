package queue

import (
	"context"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
)

// Filter chooses jobs; the zero value chooses the latest of all.
type Filter struct {
	Kind   string       // else every kind
	States []jobs.State // else every state
	Limit  int          // default DefaultLimit
}

// DefaultLimit is a screenful or two.
const DefaultLimit = 100

// List gives the jobs that match, those that changed last first. It reads every
// record of the kind and holds no more than the limit.
func (c *Client) List(ctx context.Context, f Filter) ([]Status, error) {
	if f.Limit <= 0 {
		f.Limit = DefaultLimit
	}
	subject := RunFilter
	if f.Kind != "" {
		subject = "st." + f.Kind + ".*.run"
		if _, err := jobs.ParseClass(f.Kind); err != nil {
			return nil, err
		}
	}
	found, err := c.newest(ctx, subject, f)
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	return c.withSpecs(ctx, found)
}

// newest reads the records that exist now and keeps the last that match.
func (c *Client) newest(ctx context.Context, subject string, f Filter) ([]Change, error) {
	cons, err := c.js.CreateConsumer(ctx, streamState, jetstream.ConsumerConfig{FilterSubject: subject, AckPolicy: jetstream.AckNonePolicy,
		DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, MemoryStorage: true, InactiveThreshold: followIdle})
	if err != nil {
		return nil, err
	}
	defer c.js.DeleteConsumer(context.WithoutCancel(ctx), streamState, cons.CachedInfo().Name)
	left := cons.CachedInfo().NumPending
	var ring []Change
	for left > 0 {
		batch, err := cons.Fetch(int(min(left, listBatch)), jetstream.FetchMaxWait(apiTimeout))
		if err != nil {
			return nil, err
		}
		n := uint64(0)
		for m := range batch.Messages() {
			n++
			ch, err := DecodeChange(m)
			if err != nil {
				c.log.Warn("unreadable record", "error", err)
				continue
			}
			if len(f.States) == 0 || slices.Contains(f.States, ch.Record.State) {
				if ring = append(ring, ch); len(ring) >= 2*f.Limit {
					ring = slices.Delete(ring, 0, len(ring)-f.Limit)
				}
			}
		}
		if err := batch.Error(); err != nil {
			return nil, err
		}
		if n == 0 {
			break // records that were replaced since the count come later, not again
		}
		left -= min(n, left)
	}
	slices.Reverse(ring)
	return ring[:min(len(ring), f.Limit)], nil
}

// listBatch bounds one fetch, specBatch one multi-get: the server answers no more than 1024 subjects.
const (
	listBatch = 2000
	specBatch = 500
)

func (c *Client) withSpecs(ctx context.Context, found []Change) ([]Status, error) {
	out := make([]Status, 0, len(found))
	for part := range slices.Chunk(found, specBatch) {
		subjects := make([]string, len(part))
		for i, ch := range part {
			subjects[i] = specSubject(ch.Record.ID)
		}
		msgs, err := c.last(ctx, streamState, subjects...)
		if err != nil {
			return nil, fmt.Errorf("list jobs: %w", err)
		}
		for i, ch := range part {
			st := Status{Record: ch.Record, Revision: ch.Revision}
			if m := msgs[subjects[i]]; m != nil {
				if st.Job, err = jobs.DecodeJob(m.Data); err != nil {
					c.log.Warn("unreadable job", "error", err)
				}
			}
			out = append(out, st)
		}
	}
	return out, nil
}
