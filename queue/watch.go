package queue

import (
	"context"
	"errors"
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
		end, err := c.untilEnd(ctx, id, place{streamEvents, eventSubject(id), after}, giving(decodeEvent, yield))
		switch {
		case err == nil:
			yield(lastEvent(end), nil)
		case !errors.Is(err, errLeft):
			yield(Event{}, fmt.Errorf("watch job %s: %w", id, err))
		}
	}
}

// giving decodes messages for a loop, until it is left.
func giving[T any](decode func(jetstream.Msg) (T, error), yield func(T, error) bool) func(jetstream.Msg) error {
	return func(m jetstream.Msg) error {
		v, err := decode(m)
		if err == nil && !yield(v, nil) {
			err = errLeft
		}
		return err
	}
}

// place is where a reader of what a stream holds of one job is.
type place struct {
	stream, subject string
	after           uint64 // sequence of the last message that was read
}

// consumer reads on from there.
func (p place) consumer() jetstream.OrderedConsumerConfig {
	cfg := jetstream.OrderedConsumerConfig{FilterSubjects: []string{p.subject}, DeliverPolicy: jetstream.DeliverAllPolicy}
	if p.after > 0 {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, p.after+1
	}
	return cfg
}

// untilEnd gives what lies behind a place to f, then what is added, until the job
// has ended; it returns the record that says so, or f's error.
func (c *Client) untilEnd(ctx context.Context, id jobs.ID, p place, f func(jetstream.Msg) error) (jobs.Record, error) {
	if _, err := c.Get(ctx, id); err != nil {
		return jobs.Record{}, err
	}
	// Two readers, one merged stream: the record says when it is over, and up to
	// where the messages must be read by then.
	ctx, cancel := context.WithCancel(ctx)
	g, ctx := errgroup.WithContext(ctx)
	msgs, end := make(chan jetstream.Msg), make(chan ending, 1)
	g.Go(func() error { return c.readFrom(ctx, p, msgs) })
	g.Go(func() error { return c.awaitEnd(ctx, id, p, end) })
	r, err := merge(ctx, p.after, msgs, end, f)
	cancel()
	_ = g.Wait() // merge has seen its error as the cause of ctx
	return r, err
}

// ending is a record of a job that has ended and the last sequence that is read before it is told.
type ending struct {
	record jobs.Record
	last   uint64
}

func merge(ctx context.Context, seen uint64, msgs <-chan jetstream.Msg, end <-chan ending, f func(jetstream.Msg) error) (jobs.Record, error) {
	var fin *ending
	for {
		if fin != nil && seen >= fin.last {
			return fin.record, nil
		}
		select {
		case m := <-msgs:
			md, err := m.Metadata()
			if err == nil {
				seen, err = md.Sequence.Stream, f(m)
			}
			if err != nil {
				return jobs.Record{}, err
			}
		case e := <-end:
			fin = &e
		case <-ctx.Done():
			return jobs.Record{}, context.Cause(ctx)
		}
	}
}

func (c *Client) readFrom(ctx context.Context, p place, out chan<- jetstream.Msg) error {
	for m, err := range c.Follow(ctx, p.stream, p.consumer()) {
		if err != nil {
			return err
		}
		select {
		case out <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (c *Client) awaitEnd(ctx context.Context, id jobs.ID, p place, end chan<- ending) error {
	for ch, err := range c.changes(ctx, id) {
		if err != nil {
			return err
		}
		if !ch.Record.State.Ended() {
			continue
		}
		msgs, err := c.last(ctx, p.stream, p.subject)
		if err != nil {
			return err
		}
		e := ending{record: ch.Record}
		if m := msgs[p.subject]; m != nil {
			e.last = m.Sequence
		}
		end <- e
		return nil
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
