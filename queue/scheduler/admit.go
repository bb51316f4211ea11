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
	if err := s.heed(ctx); err != nil {
		if ctx.Err() == nil && !errors.Is(err, errUnread) {
			s.log.Warn("nothing is admitted: it is not known what is paused", "error", err)
		}
		return retryAdmission
	}
	s.purgeMoot(ctx)
	s.raiseCalm(ctx)
	if err := s.cancelIdle(ctx); err != nil {
		if ctx.Err() == nil {
			s.log.Warn("jobs that nobody waits for not cancelled yet", "jobs", len(s.pool.idle), "error", err)
		}
		return retryAdmission
	}
	if err := s.resume(ctx); err != nil {
		if ctx.Err() == nil {
			s.log.Warn("jobs wait longer than they need to", "jobs", len(s.pool.ready), "error", err)
		}
		return retryAdmission
	}
	s.pool.due(now)
	s.pool.opens = time.Time{}
	for _, l := range s.pool.order {
		if err := s.admitLine(ctx, l, now); err != nil {
			if ctx.Err() == nil {
				s.log.Warn("admission delayed", "line", l.Line, "error", err)
			}
			if _, refused := errors.AsType[*jetstream.APIError](err); !refused { // it is not there for the others, either
				return retryAdmission
			}
		}
	}
	if len(s.pool.ready)+len(s.pool.idle)+len(s.pool.calm) > 0 {
		return 0
	}
	if next, ok := s.pool.next(); ok { // perhaps one that was set just now
		return max(time.Until(next), 0)
	}
	return s.cfg.Sweep
}

// errUnread is why nothing is admitted while it is not known who waits for whom, and somebody
// is paused.
var errUnread = errors.New("records are being read")

// heed sees to what people have decided, before the first job is admitted.
func (s *Scheduler) heed(ctx context.Context) error {
	if err := s.decide(ctx); err != nil {
		return err
	}
	if s.retake {
		s.retake = false
		s.takeBack(ctx, nil)
	}
	if !s.pool.caughtUp && len(s.pool.held) > 0 {
		return errUnread
	}
	if s.unsettled && s.pool.caughtUp {
		s.unsettled = false
		s.settlePauses(ctx)
	}
	return nil
}

// decide reads what people have decided, if nobody has told yet.
func (s *Scheduler) decide(ctx context.Context) error {
	if s.decided {
		return nil
	}
	c, err := s.client.Controls(ctx)
	if err == nil {
		s.setControls(c)
	}
	return err
}

// admitLine admits what may be of one line. What could not be waits.
func (s *Scheduler) admitLine(ctx context.Context, l *line, now time.Time) error {
	for es := s.take(l, now); len(es) > 0; es = s.take(l, now) {
		if err := s.admitAll(ctx, es); err != nil {
			return err
		}
	}
	return nil
}

// purgeMoot removes messages before any other gets their place.
func (s *Scheduler) purgeMoot(ctx context.Context) {
	each(s.moot, together, func(subject string) error {
		err := s.purge(ctx, subject)
		if err != nil {
			s.log.Debug("message not removed", "subject", subject, "error", err) // the sweep removes it
		}
		return err
	})
	s.moot = nil
}

// isThere reports whether the message that is in WORK under a job's name is the one
// that admits it, and not that of an attempt which has ended.
func (s *Scheduler) isThere(ctx context.Context, st queue.Status) (bool, error) {
	if st.State != jobs.Retry && st.Waits == 0 && (st.Generation == 1 || st.Claim > 0) {
		return true, nil // it had no other, or was handed back with it
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

// consumer makes sure that workers of a line have something to pull from.
func (s *Scheduler) consumer(ctx context.Context, l queue.Line) error {
	if s.consumers[l] {
		return nil
	}
	_, err := s.client.JetStream().CreateOrUpdateConsumer(ctx, queue.StreamWork, jetstream.ConsumerConfig{
		Durable: l.Consumer(), FilterSubject: l.Subject("*"), AckPolicy: jetstream.AckExplicitPolicy, AckWait: s.cfg.AckWait,
		// Attempts are counted by claims in the record. A limit on deliveries
		// would only leave messages that nobody gets and that block their subject.
		MaxDeliver:    -1,
		MaxAckPending: maxAckPending,
	})
	if err != nil {
		return fmt.Errorf("create consumer of line %s: %w", l, err)
	}
	s.consumers[l] = true
	return nil
}

// sweepConsumers makes the consumers of the lines in use that are missing: an
// operator may have deleted one, and nothing else would notice.
func (s *Scheduler) sweepConsumers(ctx context.Context, there map[string]uint64) {
	if s.adopted {
		clear(s.consumers)
		s.adopted = false
	}
	maps.DeleteFunc(s.consumers, func(l queue.Line, _ bool) bool { _, is := there[l.Consumer()]; return !is })
	for name, l := range s.pool.lines {
		if l.slots > 0 || l.admitted > 0 {
			s.serve(ctx, name)
		}
	}
}

// consumersThere are the names of WORK's consumers: a cluster that has just lost a server
// tells these at once, and not what they know of.
func (s *Scheduler) consumersThere(ctx context.Context) (map[string]bool, error) {
	st, err := s.client.JetStream().Stream(ctx, queue.StreamWork)
	if err != nil {
		return nil, fmt.Errorf("list consumers: %w", err)
	}
	names, there := st.ConsumerNames(ctx), map[string]bool{}
	for n := range names.Name() {
		there[n] = true
	}
	if err := names.Err(); err != nil {
		return nil, fmt.Errorf("list consumers: %w", err)
	}
	return there, nil
}

// serve is consumer for a line whose jobs can wait for it.
func (s *Scheduler) serve(ctx context.Context, l queue.Line) {
	if err := s.consumer(ctx, l); err != nil && ctx.Err() == nil {
		s.log.Warn("line not served", "line", l, "error", err)
	}
}

// maxAckPending is above any window: the window is the limit, and it is one that
// the scheduler can explain.
const maxAckPending = 1 << 16
