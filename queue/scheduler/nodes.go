package scheduler

import (
	"context"
	"iter"
	"maps"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/rate"
)

// forward sends what a watch gives until it fails or ctx is done.
func forward[T any](ctx context.Context, watch iter.Seq2[T, error], out chan<- T) error {
	for x, err := range watch {
		if err != nil {
			return err
		}
		select {
		case out <- x:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// setNode takes a worker's classes and slots into account.
func (s *Scheduler) setNode(ctx context.Context, ch queue.NodeChange) {
	s.slots(s.nodes[ch.Name], -1)
	if ch.Gone {
		delete(s.nodes, ch.Name)
		return
	}
	s.nodes[ch.Name] = ch.Node
	s.slots(ch.Node, 1)
	for _, c := range ch.Node.Classes {
		for _, l := range queue.Lines(c) {
			if s.leads {
				s.serve(ctx, l)
			}
		}
	}
}

// sweepNodes strikes off the workers that fell silent: their last word is gone, and
// nobody says so.
func (s *Scheduler) sweepNodes(ctx context.Context) error {
	here, err := s.client.Workers(ctx)
	if err != nil {
		return err
	}
	gone := maps.Clone(s.nodes)
	for _, n := range here {
		delete(gone, n.Name)
	}
	for name := range gone {
		s.setNode(ctx, queue.NodeChange{Name: name, Gone: true})
	}
	return nil
}

// slots counts a worker's slots in or out of the lines that it serves.
func (s *Scheduler) slots(n queue.Node, sign int) {
	for _, c := range n.Classes {
		for _, l := range queue.Lines(c) {
			s.pool.line(l).slots += sign * n.Slots
		}
	}
}

// held are the claims that workers say they hold.
func (s *Scheduler) held() map[jobs.ID]uint64 {
	held := map[jobs.ID]uint64{}
	for _, n := range s.nodes {
		for _, j := range n.Running {
			held[j.ID] = j.Claim
		}
	}
	return held
}

// setControls heeds what people decided.
func (s *Scheduler) setControls(c queue.Controls) {
	s.pool.control(c)
	s.decided, s.unsettled, s.retake = true, true, true
	limits := map[string]rate.Limit{}
	for host, r := range c.Registries {
		if r.Rate > 0 {
			limits[host] = rate.Limit{Rate: r.Rate, Burst: r.Burst}
		}
	}
	s.limits.configure(limits)
}

// takeBack removes the messages of paused jobs that have not started: a claim that is
// made at this moment stands, and its message is not missed. work are the messages
// that are known to be there; one may have been admitted by an earlier scheduler.
func (s *Scheduler) takeBack(ctx context.Context, work map[string]uint64) {
	for _, e := range s.pool.takeBack(work) {
		if err := s.purge(ctx, e.subject()); err != nil {
			s.log.Warn("paused job not taken back", "id", e.id, "error", err) // the next sweep does
			continue
		}
		if e.admitted {
			s.pool.setAdmitted(e, false)
			s.pool.wait(e)
		}
	}
}
