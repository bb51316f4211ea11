package queue

import (
	"context"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/jobs"
)

// StreamState and RunFilter are what the scheduler follows: every record.
const (
	StreamState = streamState
	RunFilter   = "st.*.*.run"
)

// Change is one version of a job's record.
type Change struct {
	Record   jobs.Record
	Revision uint64
	Last     bool // none comes after it for now, or it was written after the reader began
}

// DecodeChange reads a message of STATE under RunFilter. One that cannot be read is
// ErrUnreadable, and has its revision.
func DecodeChange(m jetstream.Msg) (Change, error) {
	md, err := m.Metadata()
	if err != nil {
		return Change{}, fmt.Errorf("decode change: %w", err)
	}
	ch, err := decodeChange(m.Subject(), m.Data(), md.Sequence.Stream)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	ch.Revision, ch.Last = md.Sequence.Stream, md.NumPending == 0
	return ch, err
}

func decodeChange(subject string, record []byte, revision uint64) (Change, error) {
	id, err := runID(subject)
	if err != nil {
		return Change{}, err
	}
	r, err := jobs.DecodeRecord(record)
	if err != nil {
		return Change{}, fmt.Errorf("%s: %w", subject, err)
	}
	if r.ID != id {
		return Change{}, fmt.Errorf("%s holds the record of %s", subject, r.ID)
	}
	return Change{Record: r, Revision: revision}, nil
}

// changes follows the record of one job from its present version on.
func (c *Client) changes(ctx context.Context, id jobs.ID) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		for m, err := range c.Follow(ctx, streamState, jetstream.OrderedConsumerConfig{
			FilterSubjects: []string{runSubject(id)}, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy}) {
			var ch Change
			if err == nil {
				ch, err = DecodeChange(m)
			}
			if !yield(ch, err) || err != nil {
				return
			}
		}
	}
}

// Wait returns when the job has ended, in whichever way.
func (c *Client) Wait(ctx context.Context, id jobs.ID) (Status, error) {
	if st, err := c.Get(ctx, id); err != nil || st.State.Ended() {
		return st, err
	}
	for ch, err := range c.changes(ctx, id) {
		if err != nil {
			return Status{}, fmt.Errorf("wait for job %s: %w", id, err)
		}
		if ch.Record.State.Ended() {
			return c.GetAt(ctx, id, ch.Revision)
		}
	}
	return Status{}, ctx.Err()
}

// Watch gives the history of a job, then its new events, and ends after an event
// whose State says how the job ended. To resume, pass the Seq of the last event
// seen; 0 starts at the beginning.
func (c *Client) Watch(ctx context.Context, id jobs.ID, after uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if _, err := c.Get(ctx, id); err != nil {
			yield(Event{}, err)
			return
		}
		// Two readers, one merged stream: the record says when it is over,
		// and up to where the history must be read by then.
		ctx, cancel := context.WithCancel(ctx)
		g, ctx := errgroup.WithContext(ctx)
		events, end := make(chan Event), make(chan ending, 1)
		g.Go(func() error { return c.readEvents(ctx, id, after, events) })
		g.Go(func() error { return c.awaitEnd(ctx, id, end) })
		err := merge(ctx, after, events, end, yield)
		cancel()
		_ = g.Wait() // merge has seen its error as the cause of ctx
		if err != nil {
			yield(Event{}, fmt.Errorf("watch job %s: %w", id, err))
		}
	}
}

// ending is the last event of a watch and the last Seq that comes before it.
type ending struct {
	event Event
	last  uint64
}

func merge(ctx context.Context, seen uint64, events <-chan Event, end <-chan ending, yield func(Event, error) bool) error {
	var fin *ending
	for {
		if fin != nil && seen >= fin.last {
			yield(fin.event, nil)
			return nil
		}
		select {
		case e := <-events:
			if seen = e.Seq; !yield(e, nil) {
				return nil
			}
		case f := <-end:
			fin = &f
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c *Client) readEvents(ctx context.Context, id jobs.ID, after uint64, out chan<- Event) error {
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: []string{eventSubject(id)}, DeliverPolicy: jetstream.DeliverAllPolicy}
	if after > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, after+1
	}
	for m, err := range c.Follow(ctx, streamEvents, cfg) {
		if err != nil {
			return err
		}
		e, err := decodeEvent(m)
		if err != nil {
			return err
		}
		select {
		case out <- e:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (c *Client) awaitEnd(ctx context.Context, id jobs.ID, end chan<- ending) error {
	for ch, err := range c.changes(ctx, id) {
		if err != nil {
			return err
		}
		if r := ch.Record; r.State.Ended() {
			msgs, err := c.last(ctx, streamEvents, eventSubject(id))
			if err != nil {
				return err
			}
			f := ending{event: lastEvent(r)}
			if m := msgs[eventSubject(id)]; m != nil {
				f.last = m.Sequence
			}
			end <- f
			return nil
		}
	}
	return nil
}

func lastEvent(r jobs.Record) Event {
	e := Event{Time: r.Updated, ID: r.ID, Source: r.Worker, Attempt: r.Attempt, Phrase: string(r.State), State: r.State}
	if r.Failure != nil {
		e.Attrs = map[string]any{"error": r.Failure.Message, "class": r.Failure.Class}
	}
	if r.Reason != "" {
		e.Attrs = map[string]any{"reason": r.Reason}
	}
	return e
}
