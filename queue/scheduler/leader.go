package scheduler

import (
	"context"
	"os"
	"slices"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// campaign stands for leader, and answers clients and workers while this scheduler
// leads.
func (s *Scheduler) campaign(ctx context.Context, lead chan<- bool, ask chan<- question) error {
	host, _ := os.Hostname() // for people
	me := queue.Scheduler{Name: s.cfg.Name, Host: host, PID: os.Getpid(), Version: s.cfg.Version, Started: time.Now().UTC()}
	var services []func()
	stop := func() {
		for _, stop := range services {
			stop()
		}
		services = nil
		s.limits.forget()
	}
	defer stop()
	s.client.Campaign(ctx, me, max(s.cfg.Replicas, 1), func(leads bool) {
		stop()
		select {
		case lead <- leads:
		case <-ctx.Done():
			return
		}
		if leads {
			services = append(services, s.answerQuestions(ctx, ask), s.serveLimits())
		}
	})
	return ctx.Err()
}

// setLead begins or ends what only one scheduler needs to do. One that stands by
// keeps its pool as the leader does, so that it can begin at once.
func (s *Scheduler) setLead(ctx context.Context, leads bool) {
	s.leads = leads
	if !leads {
		s.pool.undrop(len(s.pool.idle)) // they are the next leader's
		s.pool.calm = nil
		s.log.Info("scheduler stands by", "name", s.cfg.Name)
		return
	}
	s.log.Info("scheduler leads", "name", s.cfg.Name)
	for _, d := range s.takeUnburied() {
		s.end(ctx, d.record, false)
	}
	if err := s.adoptConsumers(ctx); err != nil && ctx.Err() == nil {
		s.log.Warn("consumers not looked at", "error", err) // the sweep does
	}
}

// adoptConsumers takes those that are there as they are, and makes those that are
// missing. The next sweep gives them this scheduler's settings: each is a request,
// and a cluster that has just lost a server is slow to answer.
func (s *Scheduler) adoptConsumers(ctx context.Context) error {
	there, err := s.consumersThere(ctx)
	if err != nil {
		return err
	}
	s.adopted = true
	for name, l := range s.pool.lines {
		if there[name.Consumer()] {
			s.consumers[name] = true
		} else if l.slots > 0 || l.admitted > 0 {
			s.serve(ctx, name)
		}
	}
	return nil
}

// unburied is a job that died and may have no letter: the leader of that time may have
// died before it wrote it, or the server did not take it.
type unburied struct {
	record jobs.Record
	seen   time.Time
}

// unburiedFor is how long one that stands by leaves them to the leader: far longer than
// a pool is without one.
const unburiedFor = time.Minute

func (s *Scheduler) keepUnburied(r jobs.Record, now time.Time) {
	if r.State == jobs.Dead {
		s.unburied = append(s.unburied, unburied{r, now})
	}
}

func (s *Scheduler) takeUnburied() []unburied {
	list := s.unburied
	s.unburied = nil
	return list
}

// bury writes the letter of a dead job, sooner or later.
func (s *Scheduler) bury(ctx context.Context, r jobs.Record) {
	if err := s.client.Bury(ctx, r); err != nil {
		s.log.Warn("dead letter not written", "id", r.ID, "error", err) // the sweep tries again
		s.keepUnburied(r, time.Now())
	}
}

// standBy is the sweep of a scheduler that does not lead: it forgets, but for the dead
// whose letters the leader could not write.
func (s *Scheduler) standBy(ctx context.Context, now time.Time) {
	err := s.sweepNodes(ctx)
	if err != nil && ctx.Err() == nil {
		s.log.Debug("workers not looked at", "error", err)
	}
	s.unburied = slices.DeleteFunc(s.unburied, func(d unburied) (buried bool) {
		if err == nil && now.Sub(d.seen) > unburiedFor {
			buried, err = s.client.Buried(ctx, d.record)
		}
		return buried
	})
	s.pool.due(now)
	s.pool.prune()
}
