package scheduler

import (
	"context"
	"slices"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// nodesEvery is how old the scheduler's list of workers may get. A worker that
// just came waits this long for a consumer at most.
const nodesEvery = 500 * time.Millisecond

// watchNodes reads the list of workers again and again. The list is short, and
// entries that expire vanish from it without a message.
func (s *Scheduler) watchNodes(ctx context.Context, out chan<- []queue.Node) error {
	tick := time.NewTicker(nodesEvery)
	defer tick.Stop()
	for {
		if list, err := s.client.Workers(ctx); err == nil {
			select {
			case out <- list:
			case <-ctx.Done():
				return ctx.Err()
			}
		} else {
			s.log.Debug("workers not listed", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// setNodes takes the workers' classes and slots into account.
func (s *Scheduler) setNodes(ctx context.Context, list []queue.Node) {
	for _, c := range s.pool.class {
		c.slots = 0
	}
	clear(s.nodes)
	for _, n := range list {
		s.nodes[n.Name] = n
		for _, c := range n.Classes {
			s.pool.of(c).slots += n.Slots
			if err := s.consumer(ctx, c); err != nil {
				s.log.Warn("class not served", "error", err)
			}
		}
	}
}

// works reports whether a worker says that it holds this claim.
func (s *Scheduler) works(r jobs.Record, claim uint64) bool {
	return slices.ContainsFunc(s.nodes[r.Worker].Running, func(j queue.RunningJob) bool { return j.ID == r.ID && j.Claim == claim })
}
