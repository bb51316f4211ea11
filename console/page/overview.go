package page

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

const (
	// maxFailed are the jobs that failed last and are shown on the first page.
	maxFailed = 8
	// lately is how long a failure is news.
	lately = time.Hour
)

// overviewData is the first page: what is wrong before all else.
type overviewData struct {
	Problems    []problem
	Slots, Busy int
	By          map[jobs.State]int
	Kinds       []kindRow
	Workers     []queue.Node
	Schedulers  []queue.Scheduler
	Failed      []queue.Status
	Whole       bool
	Operator    bool
}

// problem is something that a person may have to do something about.
type problem struct {
	Text, Link string
	Grave      bool // jobs do not run because of it
}

// kindRow counts the jobs of a kind.
type kindRow struct {
	Kind string
	By   map[jobs.State]int
}

// Of is how many jobs are in some states.
func (k kindRow) Of(states ...jobs.State) (n int) {
	for _, s := range states {
		n += k.By[s]
	}
	return n
}

// Of is how many jobs of all kinds are in some states.
func (d overviewData) Of(states ...jobs.State) int { return kindRow{By: d.By}.Of(states...) }

func (p *Page) overview(_ *http.Request, v Viewer) (reader, error) {
	return func(ctx context.Context) (any, error) {
		d := overviewData{Whole: p.index.Whole(), Operator: v.Operator}
		d.count(p, v)
		var controls queue.Controls
		g, gctx := errgroup.WithContext(ctx)
		g.Go(func() (err error) { d.Workers, err = p.client.Workers(gctx); return err })
		g.Go(func() (err error) { d.Schedulers, err = p.client.Schedulers(gctx); return err })
		g.Go(func() (err error) { controls, err = p.client.Controls(gctx); return err })
		g.Go(func() (err error) {
			d.Failed, _, err = p.latest(gctx, v, jobsQuery{State: "failed", Limit: maxFailed})
			return err
		})
		if err := g.Wait(); err != nil {
			return nil, err
		}
		for _, n := range d.Workers {
			d.Slots, d.Busy = d.Slots+n.Slots, d.Busy+len(n.Running)
		}
		// What was decided about somebody else's jobs is not for everybody.
		controls.Pauses = slices.DeleteFunc(controls.Pauses, func(p queue.Pause) bool { return p.Selector.Tenant != "" && !v.sees(p.Selector.Tenant) })
		d.diagnose(controls)
		return d, p.tellPaused(ctx, v, &d, controls.Jobs)
	}, nil
}

// tellPaused names the jobs that somebody paused, each by itself, of those that v sees.
func (p *Page) tellPaused(ctx context.Context, v Viewer, d *overviewData, pauses []queue.JobPause) error {
	if len(pauses) == 0 {
		return nil
	}
	ids := make([]jobs.ID, len(pauses))
	for i, x := range pauses {
		ids[i] = x.Job
	}
	found, err := p.client.GetAll(ctx, ids, "", 0)
	for _, x := range pauses {
		if st, ok := found[x.Job]; ok && v.sees(st.Job.Tenant) && x.Resumed.IsZero() {
			d.Problems = append(d.Problems, problem{pausedText(x.By, x.Since, what(st), x.Reason), jobPath(st), true})
		}
	}
	return err
}

func pausedText(by string, since time.Time, what, reason string) string {
	text := fmt.Sprintf("Paused by %s since %s: %s", cmp.Or(by, "somebody"), utc(since), what)
	if reason != "" {
		text += ", " + reason
	}
	return text
}

func (d *overviewData) count(p *Page, v Viewer) {
	d.By = map[jobs.State]int{}
	kinds := map[string]kindRow{}
	for _, c := range p.index.Counts() {
		if !v.sees(c.Tenant) {
			continue
		}
		if kinds[c.Kind].By == nil {
			kinds[c.Kind] = kindRow{c.Kind, map[jobs.State]int{}}
		}
		kinds[c.Kind].By[c.State] += c.N
		d.By[c.State] += c.N
	}
	for _, k := range kinds {
		d.Kinds = append(d.Kinds, k)
	}
	slices.SortFunc(d.Kinds, func(a, b kindRow) int { return cmp.Compare(a.Kind, b.Kind) })
}

// diagnose says what keeps jobs from running, and what has failed.
func (d *overviewData) diagnose(c queue.Controls) {
	open := d.Of(jobs.Queued, jobs.Running, jobs.Retry, jobs.Waiting)
	if !slices.ContainsFunc(d.Schedulers, func(s queue.Scheduler) bool { return s.Leads }) {
		d.Problems = append(d.Problems, problem{"No scheduler leads the pool: no job is started. Start lithify-scheduler.", "", true})
	}
	switch {
	case len(d.Workers) == 0:
		d.Problems = append(d.Problems, problem{"No worker is here. Start lithify-worker.", "", open > 0})
	case !slices.ContainsFunc(d.Workers, func(n queue.Node) bool { return !n.Draining }):
		d.Problems = append(d.Problems, problem{"All workers are draining: they take no more jobs.", "", open > 0})
	}
	for _, pause := range c.Pauses {
		d.Problems = append(d.Problems, problem{pausedText(pause.By, pause.Since, pause.Selector.String(), pause.Reason), "", true})
	}
	if n := d.failedLately(); n > 0 {
		text := plural(n, "job has", "jobs have")
		if n == maxFailed {
			text = count(n) + " jobs or more have"
		}
		d.Problems = append(d.Problems, problem{text + " failed in the last hour.", "/jobs?state=failed", false})
	}
	if n := d.Of(jobs.Dead); n > 0 {
		d.Problems = append(d.Problems, problem{plural(n, "job has", "jobs have") + " used up all attempts.", "/jobs?state=dead", false})
	}
	if n := d.Of(jobs.Retry); n > 0 {
		d.Problems = append(d.Problems, problem{plural(n, "job", "jobs") + " failed and will be tried again.", "/jobs?state=retry", false})
	}
}

// failedLately is how many of those that failed last are news.
func (d *overviewData) failedLately() (n int) {
	for _, st := range d.Failed {
		if time.Since(st.Updated) < lately {
			n++
		}
	}
	return n
}
