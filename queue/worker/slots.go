package worker

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

const (
	// headStart is how long a freed slot is left to interactive jobs, if any came
	// within headStartFor; then the lines that they came from are asked for more.
	headStart    = 5 * time.Millisecond
	headStartFor = 10 * time.Second
)

// slots are the jobs that a worker may still take. Interactive ones may have any,
// bulk jobs leave the reserved ones alone and come second to the others.
type slots struct {
	common, reserved chan struct{} // one token for each free slot
	pending          func(context.Context, queue.Line) bool

	mu     sync.Mutex
	urgent map[queue.Line]time.Time // when the last job came from an interactive line
}

// newSlots makes slots that are all free. pending reports whether jobs wait in a line.
func newSlots(common, reserved int, pending func(context.Context, queue.Line) bool) *slots {
	s := &slots{common: make(chan struct{}, common), reserved: make(chan struct{}, reserved), pending: pending,
		urgent: map[queue.Line]time.Time{}}
	for range common {
		s.common <- struct{}{}
	}
	for range reserved {
		s.reserved <- struct{}{}
	}
	return s
}

// take takes up to n of the free slots that are for jobs of a priority. Each is given
// back where it came from.
func (s *slots) take(p jobs.Priority, n int) (taken []chan<- struct{}) {
	for len(taken) < n {
		select {
		case <-s.common:
			taken = append(taken, s.common)
			continue
		default:
		}
		if p != jobs.Interactive {
			break
		}
		select {
		case <-s.reserved:
			taken = append(taken, s.reserved)
			continue
		default:
		}
		break
	}
	return taken
}

func release(taken []chan<- struct{}) {
	for _, c := range taken {
		c <- struct{}{}
	}
}

// came notes that a job was pulled from a line.
func (s *slots) came(l queue.Line) {
	if l.Priority != jobs.Interactive {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.urgent[l] = time.Now()
}

// lively are the interactive lines from which jobs came lately.
func (s *slots) lively() (lines []queue.Line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l, at := range s.urgent {
		if time.Since(at) > headStartFor {
			delete(s.urgent, l)
			continue
		}
		lines = append(lines, l)
	}
	return lines
}

// wait returns once there may be a free slot, or false if ctx ended first. It takes
// none: a pull may last long and bring nothing.
func (s *slots) wait(ctx context.Context, p jobs.Priority) bool {
	if p == jobs.Interactive {
		select {
		case <-s.common:
			s.common <- struct{}{}
		case <-s.reserved:
			s.reserved <- struct{}{}
		case <-ctx.Done():
			return false
		}
		return true
	}
	for {
		select {
		case <-s.common:
			s.common <- struct{}{}
		case <-ctx.Done():
			return false
		}
		lively := s.lively()
		if len(lively) == 0 {
			return true
		}
		select {
		case <-time.After(headStart):
		case <-ctx.Done():
			return false
		}
		urgent := slices.ContainsFunc(lively, func(l queue.Line) bool { return s.pending(ctx, l) })
		if !urgent && len(s.common) > 0 {
			return true
		}
	}
}
