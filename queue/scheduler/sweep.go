package scheduler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// sweep compares STATE with WORK and mends what a crash left between two writes:
// a message whose job has ended (result without ack), an admitted job without a
// message or with one that its consumer forgot, a job past its deadline that nobody
// will claim. It also makes sure of the consumers and of EVENTS. A job that it cannot read does not
// keep it from the others.
func (s *Scheduler) sweep(ctx context.Context) error {
	if err := s.sweepNodes(ctx); err != nil {
		return err
	}
	if err := s.decide(ctx); err != nil {
		return err
	}
	seen, err := s.look(ctx)
	if err != nil {
		return err
	}
	s.sweepConsumers(ctx, seen.consumers)
	for subject := range seen.work {
		if err := s.fault(subject, s.sweepMessage(ctx, subject)); err != nil {
			return err
		}
	}
	s.pool.estranged()
	s.pool.sweepCalm()
	s.takeBack(ctx, seen.work)
	s.pool.unparkAll()
	s.unsettled = true
	var late []*entry
	for _, e := range s.pool.jobs {
		if s.expires(e) {
			late = append(late, e)
			continue
		}
		err := s.sweepJob(ctx, e, seen)
		if err != nil {
			err = s.fault(e.subject(), err)
		}
		if err != nil {
			return err
		}
	}
	if err := s.expire(ctx, late[:min(len(late), expireBatch)]); err != nil {
		return err
	}
	maps.DeleteFunc(s.faults, func(subject, _ string) bool {
		_, id, err := queue.ParseWork(subject)
		return seen.work[subject] == 0 && (err != nil || s.pool.jobs[id] == nil)
	})
	for _, d := range s.takeUnburied() {
		s.bury(ctx, d.record)
	}
	if err := s.client.SetupHistory(ctx, s.cfg.Replicas); err != nil {
		return err
	}
	if err := s.setMark(ctx); err != nil {
		return err
	}
	s.pool.prune()
	return s.forget(ctx)
}

// forget removes some of the jobs that ended long ago, and of those that nobody finished
// submitting.
func (s *Scheduler) forget(ctx context.Context) error {
	next, n, err := s.client.Forget(ctx, time.Now().Add(-s.cfg.Keep), s.forgotten)
	s.forgotten = next
	if n > 0 {
		s.log.Debug("jobs forgotten", "jobs", n)
	}
	if err != nil {
		return err
	}
	s.unfinished, n, err = s.client.ForgetUnfinished(ctx, time.Now().Add(-max(s.cfg.Keep, unfinishedFor)), s.unfinished)
	if n > 0 {
		s.log.Info("jobs without a record forgotten", "jobs", n)
	}
	return err
}

// fault logs, once, that a job cannot be read, or that somebody removed it. Other errors
// are not of one job: it returns them.
func (s *Scheduler) fault(subject string, err error) error {
	if !errors.Is(err, queue.ErrUnreadable) && !errdefs.IsNotFound(err) {
		return err
	}
	if s.faults[subject] != err.Error() {
		s.faults[subject] = err.Error()
		s.log.Error("job left alone", "subject", subject, "error", err)
	}
	return nil
}

// messages are the subjects in WORK.
func (s *Scheduler) messages(ctx context.Context) (map[string]uint64, error) {
	st, err := s.client.JetStream().Stream(ctx, queue.StreamWork)
	if err != nil {
		return nil, fmt.Errorf("list messages: %w", err)
	}
	info, err := st.Info(ctx, jetstream.WithSubjectFilter(">"))
	if err != nil {
		return nil, fmt.Errorf("list messages: %w", err)
	}
	return info.State.Subjects, nil
}

// sweepMessage removes a message whose job has ended, is not known, or has left for
// another line. The record is asked, as the job may be newer than what the pool has
// heard of.
func (s *Scheduler) sweepMessage(ctx context.Context, subject string) error {
	l, id, err := queue.ParseWork(subject)
	if err != nil {
		s.log.Warn("foreign message removed", "subject", subject)
		return s.purge(ctx, subject)
	}
	if e := s.pool.jobs[id]; e != nil && (e.line.Line == l || e.state == running) {
		return nil
	}
	st, err := s.client.Get(ctx, id)
	if errdefs.IsNotFound(err) || err == nil && (st.State.Ended() || st.State == jobs.Queued && queue.LineOf(st.Record) != l) {
		s.log.Info("message that admits nothing removed", "id", id, "state", st.State)
		return s.purge(ctx, subject)
	}
	return err
}

// expireGrace leaves an expired running job to its worker, which knows why it was late.
const expireGrace = time.Minute

func (s *Scheduler) sweepJob(ctx context.Context, e *entry, seen sighting) error {
	switch {
	case e.state == waiting && e.open <= 0 && s.pool.caughtUp:
		s.pool.ready = append(s.pool.ready, waiter{e, e.revision}) // a replica may have said of a child that it runs
		return nil
	case e.admitted && seen.work[e.subject()] == 0:
		return s.sweepLost(ctx, e, seen)
	case seen.work[e.subject()] > 0 && seen.stranded[e.line.Line]:
		return s.sweepStranded(ctx, e, seen)
	}
	e.missing = 0
	s.sweepOrphan(e)
	return nil
}

// late reports whether a job is past its deadline and nobody ends it.
func (e *entry) late() bool {
	late := time.Since(time.Unix(0, e.deadline))
	return late > expireGrace || late > 0 && e.state != running
}

// expires reports whether a job is to be ended because it is late. What a pause keeps has its
// time given back; what that is, is not known before all records have been read.
func (s *Scheduler) expires(e *entry) bool {
	switch {
	case !e.late() || e.state == running:
		return e.late()
	case len(s.pool.held) > 0 && !s.pool.caughtUp:
		return false
	}
	return s.pool.heldBy(e) == nil
}

// expireBatch jobs are ended by one sweep: those of a campaign that nobody served are
// late together, and others are not to wait for all of them.
const expireBatch = 2000

func (s *Scheduler) expire(ctx context.Context, es []*entry) error {
	errs := each(es, together, func(e *entry) error {
		st, err := s.client.GetAt(ctx, e.id, e.revision)
		if err != nil || st.Revision != e.revision {
			return err
		}
		return s.apply(ctx, st, jobs.Expire{At: time.Now().UTC()})
	})
	for i, e := range es {
		if errs[i] == nil {
			continue
		}
		if err := s.fault(e.subject(), errs[i]); err != nil {
			return err
		}
	}
	return nil
}

// sweepLost sends an admitted job's message again that is gone. If the job runs
// someone may be on it, or about to say so: only one that nobody names for a whole
// sweep runs again.
func (s *Scheduler) sweepLost(ctx context.Context, e *entry, seen sighting) error {
	if e.state == running && !e.abandoned(seen) {
		return nil
	}
	return s.sendAgain(ctx, e)
}

// abandoned reports whether this sweep and the one before it found a job's message
// missing, the job as it is now, and nobody who says that it runs.
func (e *entry) abandoned(seen sighting) bool {
	before := e.missing
	e.missing = 0
	if seen.held[e.id] != e.revision {
		e.missing = e.revision
	}
	return before == e.revision && e.missing == e.revision
}

// sendAgain publishes the message of an admitted job that has none.
func (s *Scheduler) sendAgain(ctx context.Context, e *entry) error {
	st, err := s.client.GetAt(ctx, e.id, e.revision)
	if err != nil || st.Revision != e.revision {
		return err // the change is on its way
	}
	s.log.Info("lost message published again", "id", e.id, "state", st.State)
	if err := s.client.Admit(ctx, []*nats.Msg{s.message(ctx, st)})[0]; err != nil && !queue.IsQueued(err) {
		return err
	}
	return nil
}

func (s *Scheduler) purge(ctx context.Context, subject string) error {
	st, err := s.client.JetStream().Stream(ctx, queue.StreamWork)
	if err != nil {
		return err
	}
	return st.Purge(ctx, jetstream.WithPurgeSubject(subject))
}
