package page

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/lithify/lithify/jobs"
	rolloutjob "github.com/lithify/lithify/jobs/rollout"
	"github.com/lithify/lithify/queue"
)

const (
	// maxEvents of a job are shown, the last ones, and maxChildren of what it waits for.
	maxEvents   = 200
	maxChildren = 100
	// maxShown is how much of args, of a result and of an error is shown, in bytes.
	maxShown = 64 << 10
)

// jobData is the page of a job.
type jobData struct {
	queue.Status
	What      string
	Error     string
	Why       []queue.Reason // it does not run
	Attempts  []attempt
	Earlier   bool // events are not shown
	Children  []childRow
	ChildrenN int
	By        map[jobs.State]int // the children
	Args      string
	Result    string
	Printed   string // so far
	After     uint64 // the last piece of that
	Rollout   bool
	Hold      string // pause or resume, if it can be
	Operator  bool
}

// Title implements what show asks for.
func (d jobData) Title() string { return string(d.ID) }

// Open reports whether it has not ended.
func (d jobData) Open() bool { return !d.State.Ended() }

// Reopens reports whether it can be tried again.
func (d jobData) Reopens() bool { return d.State.Ended() && d.State != jobs.Done }

// attempt is what happened in one.
type attempt struct {
	Number int
	Events []queue.Event
}

// childRow is a job that another waits for.
type childRow struct {
	ID    jobs.ID
	State jobs.State
	What  string
	Error string
}

// jobReader remembers the history that it has read.
type jobReader struct {
	p       *Page
	id      jobs.ID
	viewer  Viewer
	events  []queue.Event
	earlier bool
}

func (p *Page) job(r *http.Request, v Viewer) (reader, error) {
	jr := &jobReader{p: p, id: jobs.ID(r.PathValue("id")), viewer: v}
	followed := streams(r)
	return func(ctx context.Context) (any, error) {
		d, err := jr.read(ctx)
		if err == nil && !followed { // the log has a stream of its own
			err = d.print(ctx, p)
		}
		return d, err
	}, nil
}

func (jr *jobReader) read(ctx context.Context) (jobData, error) {
	st, err := jr.p.statusOf(ctx, jr.viewer, jr.id)
	if err != nil {
		return jobData{}, err
	}
	d := jobData{Status: st, What: what(st), Error: short(failure(st)), Rollout: st.Job.Kind == rolloutjob.Kind, Operator: jr.viewer.Operator}
	d.Args, d.Result = short(indent(st.Job.Args)), short(indent(st.Result))
	if err := jr.history(ctx); err != nil {
		return d, err
	}
	d.Attempts, d.Earlier = attempts(jr.events), jr.earlier
	if d.Open() {
		x, err := jr.p.client.Explain(ctx, st.ID)
		if err != nil {
			return d, err
		}
		d.Why = x.Reasons
	}
	return d, d.readChildren(ctx, jr.p)
}

// history reads what has been added.
func (jr *jobReader) history(ctx context.Context) error {
	var after uint64
	if n := len(jr.events); n > 0 {
		after = jr.events[n-1].Seq
	}
	more, err := jr.p.client.History(ctx, jr.id, after, maxEvents+1)
	jr.events = append(jr.events, more...)
	if n := len(jr.events); n > maxEvents {
		jr.events, jr.earlier = jr.events[n-maxEvents:], true
	}
	return err
}

// attempts are events by their attempts, in order.
func attempts(events []queue.Event) (list []attempt) {
	for _, e := range events {
		if n := len(list); n == 0 || list[n-1].Number != e.Attempt {
			list = append(list, attempt{Number: e.Attempt})
		}
		last := &list[len(list)-1]
		last.Events = append(last.Events, e)
	}
	return list
}

// readChildren reads how the jobs stand that this one waits for, and the first of them whole:
// those that have failed before the others.
func (d *jobData) readChildren(ctx context.Context, p *Page) error {
	d.By, d.ChildrenN = map[jobs.State]int{}, len(d.Status.Children)
	states, err := p.client.States(ctx, d.Status.Children, "", 0)
	if errors.Is(err, queue.ErrUnreadable) { // another version's
		return nil
	}
	if err != nil {
		return err
	}
	for _, s := range states {
		d.By[s]++
	}
	ids := slices.Clone(d.Status.Children)
	slices.SortStableFunc(ids, func(a, b jobs.ID) int { return cmp.Compare(urgency(states[a]), urgency(states[b])) })
	ids = ids[:min(len(ids), maxChildren)]
	found, err := p.client.GetAll(ctx, ids, "", 0)
	for _, id := range ids {
		if st, ok := found[id]; ok {
			d.Children = append(d.Children, childRow{id, st.State, what(st), firstLine(failure(st))})
		}
	}
	return err
}

// urgency is the order in which people want to see states.
func urgency(s jobs.State) int {
	return slices.Index([]jobs.State{jobs.Dead, jobs.Failed, jobs.Cancelled, jobs.Retry, jobs.Running, jobs.Waiting, jobs.Queued, jobs.Done}, s)
}

func (d *jobData) print(ctx context.Context, p *Page) error {
	parts, err := p.client.Printed(ctx, d.ID, maxPrinted)
	show := printer(d.Job.Kind)
	var text strings.Builder
	for _, part := range parts {
		text.WriteString(show(part))
		d.After = part.Seq
	}
	d.Printed = text.String()
	return err
}

// failure is why a job has no result.
func failure(st queue.Status) string {
	switch {
	case st.State == jobs.Done:
		return ""
	case st.State == jobs.Cancelled:
		return st.Reason
	case st.Failure != nil:
		return st.Failure.Message
	}
	return st.Reason
}

// short cuts off what is too long for a page.
func short(s string) string {
	if len(s) <= maxShown {
		return s
	}
	cut := maxShown
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s\n... %s more bytes", s[:cut], count(len(s)-cut))
}

// facts are an event's attributes by name.
func facts(e queue.Event) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(e.Attrs)) {
		v := fmt.Sprint(e.Attrs[k])
		if f, ok := e.Attrs[k].(float64); ok { // every number of JSON is one
			v = fmt.Sprintf("%.10g", f)
		}
		list = append(list, k+"="+v)
	}
	return strings.Join(list, " ")
}
