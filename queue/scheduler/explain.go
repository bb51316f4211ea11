package scheduler

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// question is what the loop is asked: only it may look at the pool.
type question struct {
	id     jobs.ID
	answer chan<- queue.Explanation
}

// answerQuestions brings what clients ask to the loop, until stop.
func (s *Scheduler) answerQuestions(ctx context.Context, ask chan<- question) (stop func()) {
	stop, err := s.client.ServeExplain(func(id jobs.ID) queue.Explanation {
		answer := make(chan queue.Explanation, 1)
		select {
		case ask <- question{id, answer}:
			return <-answer
		case <-ctx.Done():
			return queue.Explanation{ID: id}
		}
	})
	if err != nil {
		s.log.Warn("nobody explains", "error", err)
		return func() {}
	}
	return stop
}

// explain says what keeps a job, from the same facts by which it is admitted.
func (s *Scheduler) explain(id jobs.ID, now time.Time) queue.Explanation {
	x := s.explainAlone(id, now)
	if e := s.pool.jobs[id]; e != nil && e.Record.State == jobs.Waiting {
		x.Reasons = append(x.Reasons, s.explainChildren(e.Record, now)...)
	}
	return x
}

// explainAlone is explain without the children of a job.
func (s *Scheduler) explainAlone(id jobs.ID, now time.Time) queue.Explanation {
	x := queue.Explanation{ID: id}
	e := s.pool.jobs[id]
	if e == nil {
		x.Reasons = []queue.Reason{{Code: queue.ReasonEnded, Text: "it has just ended, or the scheduler has not heard of it yet"}}
		return x
	}
	x.State = e.Record.State
	switch r := e.Record; r.State {
	case jobs.Running:
		x.Reasons = s.explainRunning(e)
	case jobs.Waiting:
		x.Reasons = s.explainWaiting(r)
	case jobs.Retry:
		if wait := r.NotBefore.Sub(now); wait > 0 {
			x.Reasons = []queue.Reason{{Code: queue.ReasonRetry, Text: fmt.Sprintf("attempt %d of %d failed, the next is due in %v: %s",
				r.Attempt, r.MaxAttempts, wait.Round(time.Second), r.Failure.Message)}}
			break
		}
		fallthrough
	default:
		x.Reasons = s.explainQueued(e)
	}
	return x
}

func (s *Scheduler) explainRunning(e *entry) []queue.Reason {
	r := e.Record
	if !s.works(r, e.Revision) {
		return []queue.Reason{{Code: queue.ReasonSilent, Text: fmt.Sprintf("worker %s has it since %s and does not say so any more: if it is gone, the job runs again within %v",
			r.Worker, r.Updated.Format(time.RFC3339), s.cfg.AckWait)}}
	}
	return []queue.Reason{{Code: queue.ReasonRunning, Text: fmt.Sprintf("worker %s runs it since %s, attempt %d of %d",
		r.Worker, r.Updated.Format(time.RFC3339), r.Attempt, r.MaxAttempts)}}
}

// showChildren is how many are named; the rest is counted.
const showChildren = 5

func (s *Scheduler) explainWaiting(r jobs.Record) []queue.Reason {
	open := s.pool.running(r.Children)
	if len(open) == 0 {
		return []queue.Reason{{Code: queue.ReasonDue, Text: "all that it waited for has ended: it is about to be queued"}}
	}
	return []queue.Reason{{Code: queue.ReasonChildren, Text: fmt.Sprintf("it waits for %d of %d jobs", len(open), len(r.Children))}}
}

func (s *Scheduler) explainChildren(r jobs.Record, now time.Time) (reasons []queue.Reason) {
	open := s.pool.running(r.Children)
	for _, id := range open[:min(len(open), showChildren)] {
		child := s.explainAlone(id, now)
		text := fmt.Sprintf("%s is %s", id, child.State)
		if len(child.Reasons) > 0 {
			text += ": " + child.Reasons[0].Text
		}
		reasons = append(reasons, queue.Reason{Code: queue.ReasonChildren, Text: text})
	}
	return reasons
}

func (s *Scheduler) explainQueued(e *entry) (reasons []queue.Reason) {
	add := func(code queue.ReasonCode, text string, args ...any) {
		reasons = append(reasons, queue.Reason{Code: code, Text: fmt.Sprintf(text, args...)})
	}
	class, c := e.Record.Class, s.pool.of(e.Record.Class)
	var slots, busy, draining int
	for _, n := range s.nodes {
		if slices.Contains(n.Classes, class) {
			slots += n.Slots
			busy += len(n.Running)
			if n.Draining {
				draining += n.Slots
			}
		}
	}
	switch {
	case slots == 0:
		add(queue.ReasonNoWorker, "no worker serves its class %s%s", class, s.nearest(class))
	case draining == slots:
		add(queue.ReasonDraining, "every worker of its class %s is draining", class)
	case busy >= slots:
		add(queue.ReasonBusy, "all %d slots of the workers that serve its class %s are taken", slots, class)
	}
	if window := s.pool.windowOf(c); !e.admitted && c.admitted >= window {
		add(queue.ReasonWindow, "%d jobs of its class are admitted, of a window of %d; %d are before it", c.admitted, window, c.before(e.Record.ID))
	}
	if len(reasons) == 0 {
		add(queue.ReasonDue, "nothing keeps it: it is about to start")
	}
	return reasons
}

// nearest says what workers serve instead, and which part of the class they lack.
func (s *Scheduler) nearest(want jobs.Class) string {
	var served []string
	for _, n := range s.nodes {
		for _, c := range n.Classes {
			if c.Kind == want.Kind && !slices.Contains(served, c.String()) {
				served = append(served, c.String())
			}
		}
	}
	slices.Sort(served)
	switch {
	case len(s.nodes) == 0:
		return ": no worker is here at all"
	case len(served) == 0:
		return fmt.Sprintf(": none of the %d workers takes jobs of kind %s", len(s.nodes), want.Kind)
	}
	return "; served are " + strings.Join(served, ", ")
}
