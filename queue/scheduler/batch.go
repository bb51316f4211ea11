package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// admitBatch bounds what is read and published in one step: so many jobs' specs are
// a few hundred kilobytes.
const admitBatch = 500

// take gives the next jobs of a line that may be admitted. They count as admitted until
// admitAll finds that they cannot be.
func (s *Scheduler) take(l *line, now time.Time) (es []*entry) {
	for len(es) < admitBatch {
		e := s.pool.take(l, now)
		if e == nil {
			break
		}
		s.pool.setAdmitted(e, true)
		es = append(es, e)
	}
	return es
}

// admitAll reads jobs of one line in one request and publishes their messages in
// one batch. Those that cannot be admitted wait. The error is the first that was
// none of its job's own.
func (s *Scheduler) admitAll(ctx context.Context, es []*entry) (first error) {
	found, err := s.read(ctx, es)
	if errors.Is(err, queue.ErrUnreadable) && len(es) > 1 { // the others are admitted without it
		for i := range es {
			first = or(first, s.admitAll(ctx, es[i:i+1]))
		}
		return first
	}
	var ready []*entry
	var msgs []*nats.Msg
	for _, e := range es {
		st, ok, err := s.admissible(ctx, e, found, err)
		if !ok {
			first = or(first, s.putBack(e, err))
			continue
		}
		ready, msgs = append(ready, e), append(msgs, s.message(ctx, st))
	}
	for i, err := range s.client.Admit(ctx, msgs) {
		e := ready[i]
		if queue.IsQueued(err) {
			err = s.settle(ctx, found[e.id])
		}
		if err != nil {
			first = or(first, s.putBack(e, err))
		}
	}
	return first
}

func or(first, err error) error {
	if first != nil {
		return first
	}
	return err
}

// read gives the jobs of es, once their workers have something to pull from.
func (s *Scheduler) read(ctx context.Context, es []*entry) (map[jobs.ID]queue.Status, error) {
	if err := s.consumer(ctx, es[0].line.Line); err != nil {
		return nil, err
	}
	ids := make([]jobs.ID, len(es))
	for i, e := range es {
		ids[i] = e.id
	}
	return s.client.GetAll(ctx, ids, s.pool.heard.id, s.pool.heard.revision)
}

// admissible reports whether a job is still the one that was taken, and a valid one.
func (s *Scheduler) admissible(ctx context.Context, e *entry, found map[jobs.ID]queue.Status, err error) (queue.Status, bool, error) {
	st, ok := found[e.id]
	switch {
	case err != nil:
		return st, false, err
	case !ok:
		return st, false, fmt.Errorf("job %s: %w", e.id, errdefs.ErrNotFound)
	case st.Revision > e.revision:
		return st, false, nil // the change is on its way
	case s.pool.heldEarly(e, st.Job.Parent):
		s.pool.putAside(e)
		return st, false, nil
	}
	if msg := s.invalid(st.Job); msg != "" {
		return st, false, s.apply(ctx, st, jobs.Reject{Message: msg, At: time.Now().UTC()})
	}
	return st, true, nil
}

// errOther is a message of an earlier attempt that its worker is about to ack.
var errOther = errors.New("another message is there")

// settle finds out what the message is that is in WORK already.
func (s *Scheduler) settle(ctx context.Context, st queue.Status) error {
	there, err := s.isThere(ctx, st)
	if err == nil && !there {
		return errOther
	}
	return err
}

// putBack lets a job that was not admitted wait, if err says that it has to. It
// returns an error that is not the job's own.
func (s *Scheduler) putBack(e *entry, err error) error {
	s.pool.setAdmitted(e, false)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errOther):
		s.pool.waitUntil(e, time.Now().Add(retryAdmission))
		return nil
	case s.fault(e.subject(), err) == nil:
		s.pool.waitUntil(e, time.Now().Add(s.cfg.Sweep))
		return nil
	}
	s.pool.waitUntil(e, time.Now().Add(retryAdmission))
	return fmt.Errorf("admit job %s: %w", e.id, err)
}

// message is a job's message in WORK. It is a pointer: what it is worth, the record
// says.
func (s *Scheduler) message(ctx context.Context, st queue.Status) *nats.Msg {
	m := s.client.Admission(st)
	p := otel.GetTextMapPropagator()
	p.Inject(p.Extract(ctx, propagation.MapCarrier(st.Job.Trace)), queue.Carrier(m.Header))
	return m
}
