package page

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/console/index"
	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/all"
	"github.com/lithify/lithify/queue"
)

// perPage jobs are read for each page, whatever the pool has.
const perPage = 50

// jobsQuery is which jobs a page lists.
type jobsQuery struct {
	State, Kind string // as in the form
	Before      uint64
	Limit       int
}

// choices are the states of the form that are more than one.
var choices = map[string][]jobs.State{
	"":       nil,
	"open":   {jobs.Queued, jobs.Running, jobs.Retry, jobs.Waiting},
	"failed": {jobs.Failed, jobs.Dead},
	"ended":  {jobs.Done, jobs.Failed, jobs.Dead, jobs.Cancelled},
}

// states are those that the form's choice stands for. Failed are also those that are dead:
// who looks for what went wrong wants both.
func (q jobsQuery) states() ([]jobs.State, error) {
	if states, ok := choices[q.State]; ok {
		return states, nil
	}
	if slices.Contains(jobs.States, jobs.State(q.State)) {
		return []jobs.State{jobs.State(q.State)}, nil
	}
	return nil, fmt.Errorf("state %q is none of %v: %w", q.State, jobs.States, errdefs.ErrInvalidArgument)
}

type jobsData struct {
	jobsQuery
	Jobs   []queue.Status
	Total  int // that match
	Older  string
	States []option
	Kinds  []option
	Whole  bool
}

// option is one of a form's select.
type option struct {
	Value, Text string
	Selected    bool
}

func (p *Page) jobs(r *http.Request, v Viewer) (reader, error) {
	q := jobsQuery{State: r.URL.Query().Get("state"), Kind: r.URL.Query().Get("kind"), Limit: perPage}
	var err error
	if q.Before, err = number(r, "before"); err != nil {
		return nil, err
	}
	if _, known := all.Validators()[q.Kind]; q.Kind != "" && !known {
		return nil, fmt.Errorf("kind %q is not known: %w", q.Kind, errdefs.ErrInvalidArgument)
	}
	if _, err := q.states(); err != nil {
		return nil, err
	}
	return func(ctx context.Context) (any, error) {
		d := jobsData{jobsQuery: q, Whole: p.index.Whole(), States: stateOptions(q.State), Kinds: kindOptions(q.Kind), Total: p.matching(v, q)}
		var before uint64
		var err error
		d.Jobs, before, err = p.latest(ctx, v, q)
		if before > 0 {
			d.Older = "/jobs?" + url.Values{"state": {q.State}, "kind": {q.Kind}, "before": {strconv.FormatUint(before, 10)}}.Encode()
		}
		return d, err
	}, nil
}

// latest reads the jobs of a query, and gives the Before of the next ones.
func (p *Page) latest(ctx context.Context, v Viewer, q jobsQuery) (list []queue.Status, before uint64, err error) {
	states, err := q.states()
	if err != nil {
		return nil, 0, err
	}
	ids, before := p.index.Latest(index.Query{Kind: q.Kind, States: states, Sees: v.sees, Before: q.Before, Limit: q.Limit})
	found, err := p.client.GetAll(ctx, ids, "", 0)
	if err != nil {
		return nil, 0, err
	}
	for _, id := range ids {
		if st, ok := found[id]; ok { // else it is forgotten
			list = append(list, st)
		}
	}
	return list, before, nil
}

// matching is how many jobs a query is for, on all its pages.
func (p *Page) matching(v Viewer, q jobsQuery) (n int) {
	states, _ := q.states() // checked before
	for _, c := range p.index.Counts() {
		if (q.Kind == "" || c.Kind == q.Kind) && (len(states) == 0 || slices.Contains(states, c.State)) && v.sees(c.Tenant) {
			n += c.N
		}
	}
	return n
}

func stateOptions(selected string) (list []option) {
	for _, o := range [][2]string{{"", "every state"}, {"open", "not ended"}, {"failed", "failed or dead"}, {"ended", "ended"}} {
		list = append(list, option{o[0], o[1], o[0] == selected})
	}
	for _, s := range jobs.States {
		if s != jobs.Failed { // the form's has more
			list = append(list, option{string(s), label(s), string(s) == selected})
		}
	}
	return list
}

func kindOptions(selected string) []option {
	list := []option{{"", "every kind", selected == ""}}
	for _, k := range slices.Sorted(maps.Keys(all.Validators())) {
		list = append(list, option{k, k, k == selected})
	}
	return list
}
