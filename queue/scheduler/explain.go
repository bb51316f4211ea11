package scheduler

import (
	"cmp"
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
	jobs   []queue.Status
	answer chan<- [][]queue.Reason // of each; nil: the pool has not heard of that revision, or of a later one
}

// hearsWithin is how long an answer waits for the pool to hear of what is asked for: a
// record is read at once by its ID, and follows its way into the pool.
const hearsWithin = time.Second

// showChildren is how many are named; the rest is counted.
const showChildren = 5

// answerQuestions answers what clients ask, until stop: records are read here, what
// the pool makes of them the loop says.
func (s *Scheduler) answerQuestions(ctx context.Context, ask chan<- question) (stop func()) {
	stop, err := s.client.ServeExplain(func(id jobs.ID) queue.Explanation { return s.answer(ctx, ask, id) })
	if err != nil {
		s.log.Warn("nobody explains", "error", err)
		return func() {}
	}
	return stop
}

func (s *Scheduler) answer(ctx context.Context, ask chan<- question, id jobs.ID) queue.Explanation {
	for end := time.Now().Add(hearsWithin); ; time.Sleep(hearsWithin / 100) {
		st, err := s.client.Get(ctx, id)
		if err != nil {
			return queue.Explanation{ID: id, Reasons: []queue.Reason{{Code: queue.ReasonUnknown, Text: "its record was not read: " + err.Error()}}}
		}
		x := queue.Explanation{ID: id, State: st.State}
		if st.State == jobs.Waiting {
			x.Reasons = s.explainChildren(ctx, ask, st)
			return x
		}
		x.Reasons = s.ask(ctx, ask, st)[0]
		switch {
		case x.Reasons == nil && time.Now().Before(end) && ctx.Err() == nil:
			continue
		case x.Reasons == nil:
			x.Reasons = []queue.Reason{{Code: queue.ReasonDue, Text: "the scheduler has not heard of it yet"}}
		}
		return x
	}
}

// ask has the loop explain jobs, in one turn.
func (s *Scheduler) ask(ctx context.Context, ask chan<- question, about ...queue.Status) [][]queue.Reason {
	answer := make(chan [][]queue.Reason, 1)
	select {
	case ask <- question{about, answer}:
		return <-answer
	case <-ctx.Done():
		return make([][]queue.Reason, len(about))
	}
}

// explainAll answers a question.
func (s *Scheduler) explainAll(q question) {
	now, all := time.Now(), make([][]queue.Reason, len(q.jobs))
	for i, st := range q.jobs {
		all[i] = s.explain(st.Record, st.Revision, now)
	}
	q.answer <- all
}

func (s *Scheduler) explainChildren(ctx context.Context, ask chan<- question, st queue.Status) (reasons []queue.Reason) {
	children, err := s.client.GetAll(ctx, st.Children, st.ID, st.Revision)
	if err != nil {
		return []queue.Reason{{Code: queue.ReasonUnknown, Text: err.Error()}}
	}
	var open []queue.Status
	for _, c := range children {
		if !c.State.Ended() {
			open = append(open, c)
		}
	}
	if len(open) == 0 {
		return []queue.Reason{{Code: queue.ReasonDue, Text: "all that it waited for has ended: it is about to be queued"}}
	}
	slices.SortFunc(open, func(a, b queue.Status) int { return cmp.Compare(a.Record.ID, b.Record.ID) })
	reasons = append(reasons, queue.Reason{Code: queue.ReasonChildren, Text: fmt.Sprintf("it waits for %d of %d jobs", len(open), len(st.Children))})
	shown := open[:min(len(open), showChildren)]
	all := s.ask(ctx, ask, append([]queue.Status{st}, shown...)...)
	reasons = append(all[0], reasons...)
	for i, why := range all[1:] {
		text := fmt.Sprintf("%s is %s", shown[i].Record.ID, shown[i].State)
		if len(why) > 0 {
			text += ": " + why[0].Text
		}
		reasons = append(reasons, queue.Reason{Code: queue.ReasonChildren, Text: text})
	}
	return reasons
}

// explain says what keeps a job, from the same facts by which it is admitted. It is
// nil if the pool is behind the record; of one that waits for others it says who paused it.
func (s *Scheduler) explain(r jobs.Record, revision uint64, now time.Time) (reasons []queue.Reason) {
	add := func(code queue.ReasonCode, text string, args ...any) {
		reasons = append(reasons, queue.Reason{Code: code, Text: fmt.Sprintf(text, args...)})
	}
	e, wait := s.pool.jobs[r.ID], r.NotBefore.Sub(now).Round(time.Second)
	switch {
	case r.State.Ended() || e == nil || e.revision < revision:
	case r.State == jobs.Waiting:
		return s.explainPauses(e)
	case r.State == jobs.Running && s.held()[r.ID] == revision:
		add(queue.ReasonRunning, "worker %s runs it since %s, attempt %d of %d", r.Worker, r.Updated.Format(time.RFC3339), r.Attempt, r.MaxAttempts)
	case r.State == jobs.Running:
		add(queue.ReasonSilent, "worker %s has it since %s and does not say so any more: if it is gone, the job runs again within %v",
			r.Worker, r.Updated.Format(time.RFC3339), s.cfg.AckWait)
	case r.Doubted() && wait > 0:
		add(queue.ReasonRetry, "it is dead unless, in the next %v, a worker that fell silent with it is heard of: %s", wait, r.Failure.Message)
	case r.State == jobs.Retry && wait > 0:
		add(queue.ReasonRetry, "its last attempt failed, attempt %d of %d is due in %v: %s", r.Attempt+1, r.MaxAttempts, wait, r.Failure.Message)
	case wait > 0:
		add(queue.ReasonDelayed, "it is not to run before %s, in %v", r.NotBefore.Format(time.RFC3339), wait)
	default:
		return s.explainQueued(e, now)
	}
	return reasons
}

func (s *Scheduler) explainQueued(e *entry, now time.Time) (reasons []queue.Reason) {
	add := func(code queue.ReasonCode, text string, args ...any) {
		reasons = append(reasons, queue.Reason{Code: code, Text: fmt.Sprintf(text, args...)})
	}
	reasons = append(s.explainPauses(e), s.explainWorkers(e.line.Class)...)
	if e.admitted {
		if len(reasons) == 0 {
			add(queue.ReasonDue, "nothing keeps it: it is about to start")
		}
		return reasons
	}
	if t := e.tenant; t.limit > 0 && t.inFlight >= t.limit {
		add(queue.ReasonTenant, "its tenant %s has %d jobs in flight, of at most %d", t.name, t.inFlight, t.limit)
	}
	for _, h := range e.hosts.all() {
		if until, shut := s.pool.shut(h.name, now); shut {
			add(queue.ReasonRegistry, "registry %s is limited until %s, in %v", h.name, until.Format(time.RFC3339), until.Sub(now).Round(time.Second))
		}
		if h.limit > 0 && h.inFlight >= h.limit {
			add(queue.ReasonRegistry, "registry %s has %d jobs in flight, of at most %d", h.name, h.inFlight, h.limit)
		}
	}
	if l, window := e.line, s.pool.windowOf(e.line); l.admitted >= window {
		add(queue.ReasonWindow, "%d jobs of its line %s are admitted, of a window of %d; %d of its tenant are before it%s",
			l.admitted, l.Line, window, l.before(e), others(len(l.waiting)-1))
	}
	if len(reasons) == 0 {
		add(queue.ReasonDue, "nothing keeps it: it is about to start")
	}
	return reasons
}

// explainPauses says who keeps a job from being started, and why.
func (s *Scheduler) explainPauses(e *entry) (reasons []queue.Reason) {
	add := func(what string, since time.Time, by, why string) {
		text := fmt.Sprintf("%s is paused since %s", what, since.Format(time.RFC3339))
		if by != "" {
			text += " by " + by
		}
		if why != "" {
			text += ": " + why
		}
		reasons = append(reasons, queue.Reason{Code: queue.ReasonPaused, Text: text})
	}
	if x := s.pool.heldBy(e); x != nil {
		add("job "+string(x.Job), x.Since, x.By, x.Reason)
	}
	if x := s.pool.pausedJob(e); x != nil {
		add(x.Selector.String(), x.Since, x.By, x.Reason)
	}
	return reasons
}

func others(tenants int) string {
	if tenants < 1 {
		return ""
	}
	return fmt.Sprintf(", and it takes turns with %d other tenants", tenants)
}

// explainWorkers says what is the matter with the workers of a class.
func (s *Scheduler) explainWorkers(class jobs.Class) []queue.Reason {
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
		return []queue.Reason{{Code: queue.ReasonNoWorker, Text: fmt.Sprintf("no worker serves its class %s%s", class, s.nearest(class))}}
	case draining == slots:
		return []queue.Reason{{Code: queue.ReasonDraining, Text: fmt.Sprintf("every worker of its class %s is draining", class)}}
	case busy >= slots:
		return []queue.Reason{{Code: queue.ReasonBusy, Text: fmt.Sprintf("all %d slots of the workers that serve its class %s are taken", slots, class)}}
	}
	return nil
}

// nearest says which part of a class the workers lack that come closest.
func (s *Scheduler) nearest(want jobs.Class) string {
	if len(s.nodes) == 0 {
		return ": no worker is here at all"
	}
	var best []string
	for name, n := range s.nodes {
		for _, c := range n.Classes {
			if c.Kind != want.Kind {
				continue
			}
			lacks := missing(c, want)
			if best == nil || len(lacks) < len(best) || len(lacks) == len(best) && strings.Join(lacks, "") < strings.Join(best, "") {
				best = append(lacks, fmt.Sprintf("; nearest is %s, which serves %s", name, c))
			}
		}
	}
	if best == nil {
		return fmt.Sprintf(": none of the %d workers takes jobs of kind %s", len(s.nodes), want.Kind)
	}
	last := len(best) - 1
	return ": none has " + strings.Join(best[:last], " and ") + best[last]
}

// missing are the parts of a class, as label=value, that another one has not.
func missing(have, want jobs.Class) (lacks []string) {
	for _, part := range []struct{ label, have, want string }{
		{"os", have.OS, want.OS}, {"arch", have.Arch, want.Arch}, {"feature", have.Feature, want.Feature}} {
		if part.have != part.want {
			lacks = append(lacks, part.label+"="+part.want)
		}
	}
	return lacks
}
