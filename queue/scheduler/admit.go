package scheduler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// admit publishes what the windows have room for. It returns how long to sleep
// if nothing else happens.
func (s *Scheduler) admit(ctx context.Context) time.Duration {
	now := time.Now()
	if err := s.resume(ctx); err != nil {
		if ctx.Err() == nil {
			s.log.Warn("jobs wait longer than they need to", "jobs", len(s.pool.waiters.ready), "error", err)
		}
		return retryAdmission
	}
	s.pool.due(now)
	for _, c := range s.pool.class {
		for es := s.take(c); len(es) > 0; es = s.take(c) {
			if err := s.admitAll(ctx, es); err != nil {
				if ctx.Err() == nil {
					s.log.Warn("admission delayed", "error", err)
				}
				return retryAdmission
			}
		}
	}
	if next, ok := s.pool.next(); ok { // perhaps one that was set just now
		return max(time.Until(next), 0)
	}
	return s.cfg.Sweep
}

// isThere reports whether the message that is in WORK under a job's name is the one
// that admits it, and not that of an attempt which has ended.
func (s *Scheduler) isThere(ctx context.Context, st queue.Status) (bool, error) {
	if st.State != jobs.Retry && st.Waits == 0 {
		return true, nil // it had no other
	}
	revision, err := s.client.AdmittedRevision(ctx, st)
	return revision == st.Revision, err
}

// invalid says what is wrong with a job, if anything.
func (s *Scheduler) invalid(j jobs.Job) string {
	v, ok := s.validate[j.Kind]
	if !ok {
		return fmt.Sprintf("no kind %q in this pool", j.Kind)
	}
	if err := v(j.Args); err != nil {
		return err.Error()
	}
	return ""
}

// apply is Client.Apply for edges that are moot when the job has moved on.
func (s *Scheduler) apply(ctx context.Context, st queue.Status, e jobs.Edge) error {
	_, err := s.client.Apply(ctx, st, e)
	if _, edge := errors.AsType[*jobs.EdgeError](err); edge || errdefs.IsConflict(err) {
		return nil
	}
	return err
}

// consumer makes sure that workers of a class have something to pull from.
func (s *Scheduler) consumer(ctx context.Context, c jobs.Class) error {
	if s.consumers[c] {
		return nil
	}
	_, err := s.client.JetStream().CreateOrUpdateConsumer(ctx, queue.StreamWork, jetstream.ConsumerConfig{
		Durable: queue.ConsumerName(c), FilterSubject: queue.WorkSubject(c, "*"), AckPolicy: jetstream.AckExplicitPolicy, AckWait: s.cfg.AckWait,
		// Attempts are counted by claims in the record. A limit on deliveries
		// would only leave messages that nobody gets and that block their subject.
		MaxDeliver:    -1,
		MaxAckPending: maxAckPending,
	})
	if err != nil {
		return fmt.Errorf("create consumer of class %s: %w", c, err)
	}
	s.consumers[c] = true
	return nil
}

// sweepConsumers makes the consumers of the classes in use that are missing: an
// operator may have deleted one, and nothing else would notice.
func (s *Scheduler) sweepConsumers(ctx context.Context) error {
	st, err := s.client.JetStream().Stream(ctx, queue.StreamWork)
	if err != nil {
		return fmt.Errorf("list consumers: %w", err)
	}
	names, there := st.ConsumerNames(ctx), map[string]bool{}
	for n := range names.Name() {
		there[n] = true
	}
	if err := names.Err(); err != nil {
		return fmt.Errorf("list consumers: %w", err)
	}
	maps.DeleteFunc(s.consumers, func(c jobs.Class, _ bool) bool { return !there[queue.ConsumerName(c)] })
	for name, c := range s.pool.class {
		if c.slots > 0 || c.admitted > 0 {
			s.serve(ctx, name)
		}
	}
	return nil
}

// serve is consumer for a class whose jobs can wait for it.
func (s *Scheduler) serve(ctx context.Context, c jobs.Class) {
	if err := s.consumer(ctx, c); err != nil && ctx.Err() == nil {
		s.log.Warn("class not served", "class", c, "error", err)
	}
}

// maxAckPending is above any window: the window is the limit, and it is one that
// the scheduler can explain.
const maxAckPending = 1 << 16
