package scheduler

import (
	"context"
	"slices"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

func (s *Scheduler) watchNodes(ctx context.Context, out chan<- queue.NodeChange) error {
	for n, err := range s.client.WatchWorkers(ctx) {
		if err != nil {
			return err
		}
		select {
		case out <- n:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// setNode takes a worker's classes and slots into account.
func (s *Scheduler) setNode(ctx context.Context, ch queue.NodeChange) {
	old := s.nodes[ch.Name]
	for _, c := range old.Classes {
		s.pool.of(c).slots -= old.Slots
	}
	if ch.Gone {
		delete(s.nodes, ch.Name)
		return
	}
	s.nodes[ch.Name] = ch.Node
	for _, c := range ch.Node.Classes {
		s.pool.of(c).slots += ch.Node.Slots
		if s.leads {
			s.serve(ctx, c)
		}
	}
}

// works reports whether a worker says that it holds this claim.
func (s *Scheduler) works(r jobs.Record, claim uint64) bool {
	return slices.ContainsFunc(s.nodes[r.Worker].Running, func(j queue.RunningJob) bool { return j.ID == r.ID && j.Claim == claim })
}
