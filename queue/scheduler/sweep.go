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
// message, a job past its deadline that nobody will claim. It also makes sure of
// the consumers. A job that it cannot read does not keep it from the others.
func (s *Scheduler) sweep(ctx context.Context) error {
	work, err := s.messages(ctx)
	if err != nil {
		return err
	}
	if err := s.sweepConsumers(ctx); err != nil {
		return err
	}
	for subject := range work {
		if err := s.fault(subject, s.sweepMessage(ctx, subject)); err != nil {
			return err
		}
	}
	for _, e := range s.pool.jobs {
		subject := queue.WorkSubject(e.Record.Class, e.Record.ID)
		if err := s.fault(subject, s.sweepJob(ctx, e, work[subject] > 0)); err != nil {
			return err
		}
	}
	maps.DeleteFunc(s.faults, func(subject, _ string) bool {
		id, err := queue.ParseWork(subject)
		return work[subject] == 0 && (err != nil || s.pool.jobs[id] == nil)
	})
	return s.forget(ctx)
}

// forget removes some of the jobs that ended long ago.
func (s *Scheduler) forget(ctx context.Context) error {
	next, n, err := s.client.Forget(ctx, time.Now().Add(-s.cfg.Keep), s.forgotten)
	s.forgotten = next
	if n > 0 {
		s.log.Debug("jobs forgotten", "jobs", n)
	}
	return err
}

// fault logs, once, that a job cannot be read. Other errors are not of one job:
// it returns them.
func (s *Scheduler) fault(subject string, err error) error {
	if !errors.Is(err, queue.ErrUnreadable) {
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

// sweepMessage removes a message whose job has ended or is not known. The record
// is asked, as the job may be newer than what the pool has heard of.
func (s *Scheduler) sweepMessage(ctx context.Context, subject string) error {
	id, err := queue.ParseWork(subject)
	if err != nil {
		s.log.Warn("foreign message removed", "subject", subject)
		return s.purge(ctx, subject)
	}
	if s.pool.jobs[id] != nil {
		return nil
	}
	st, err := s.client.Get(ctx, id)
	if errdefs.IsNotFound(err) || err == nil && st.State.Ended() {
		s.log.Info("message of an ended job removed", "id", id, "state", st.State)
		return s.purge(ctx, subject)
	}
	return err
}

// expireGrace leaves an expired running job to its worker, which knows why it was late.
const expireGrace = time.Minute

func (s *Scheduler) sweepJob(ctx context.Context, e *entry, queued bool) error {
	r, now := e.Record, time.Now().UTC()
	late := now.Sub(r.Deadline)
	switch {
	case late > expireGrace || late > 0 && r.State != jobs.Running:
		return s.apply(ctx, queue.Status{Record: r, Revision: e.Revision}, jobs.Expire{At: now})
	case r.State == jobs.Waiting && len(s.pool.running(r.Children)) == 0:
		s.pool.waiters.add(r.ID, e.Revision, nil) // a replica may have said of a child that it runs
		return nil
	case queued || !e.admitted:
		return nil
	case r.State == jobs.Running && (s.works(r, e.Revision) || e.missing != e.Revision):
		// Its message is gone, but someone may be on it, or about to say so:
		// only a job that nobody names for a whole sweep runs again.
		e.missing = e.Revision
		return nil
	}
	s.log.Info("lost message published again", "id", r.ID, "state", r.State)
	st, err := s.client.Get(ctx, r.ID)
	if err != nil {
		return err
	}
	if err := s.client.Admit(ctx, []*nats.Msg{s.message(ctx, st)})[0]; err != nil && !queue.IsQueued(err) {
		return err
	}
	return nil
}

// remove takes a job's message out of WORK.
func (s *Scheduler) remove(ctx context.Context, c jobs.Class, id jobs.ID) error {
	return s.purge(ctx, queue.WorkSubject(c, id))
}

func (s *Scheduler) purge(ctx context.Context, subject string) error {
	st, err := s.client.JetStream().Stream(ctx, queue.StreamWork)
	if err != nil {
		return err
	}
	return st.Purge(ctx, jetstream.WithPurgeSubject(subject))
}
