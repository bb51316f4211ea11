package worker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/lithify/lithify/jobs"
)

const (
	// headStart is how long a freed slot is left to interactive jobs, if any came
	// within headStartFor: long enough for a message that waits to be pulled.
	headStart    = 5 * time.Millisecond
	headStartFor = 10 * time.Second
)

// slots are the jobs that a worker may still take. Interactive ones may have any,
// bulk jobs leave the reserved ones alone and come second to the others.
type slots struct {
	common, reserved chan struct{} // one token for each free slot
	interactive      atomic.Int64  // unix nanoseconds at which the last interactive job came
}

func newSlots(common, reserved int) *slots {
	s := &slots{common: make(chan struct{}, common), reserved: make(chan struct{}, reserved)}
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

// came notes that a job of a priority was pulled.
func (s *slots) came(p jobs.Priority) {
	if p == jobs.Interactive {
		s.interactive.Store(time.Now().UnixNano())
	}
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
		if time.Since(time.Unix(0, s.interactive.Load())) > headStartFor {
			return true
		}
		select {
		case <-time.After(headStart):
		case <-ctx.Done():
			return false
		}
		if len(s.common) > 0 {
			return true
		}
	}
}
