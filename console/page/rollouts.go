package page

import (
	"cmp"
	"context"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/lithify/lithify/console/rollouts"
	"github.com/lithify/lithify/jobs"
	rolloutjob "github.com/lithify/lithify/jobs/rollout"
	"github.com/lithify/lithify/queue"
)

// rolloutsData is the list of rollouts.
type rolloutsData struct {
	Jobs  []queue.Status
	Older string
	Whole bool
}

func (p *Page) rollouts(r *http.Request, v Viewer) (reader, error) {
	before, err := number(r, "before")
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (any, error) {
		d := rolloutsData{Whole: p.index.Whole()}
		var next uint64
		var err error
		d.Jobs, next, err = p.latest(ctx, v, jobsQuery{Kind: rolloutjob.Kind, Before: before, Limit: perPage})
		if next > 0 {
			d.Older = "/rollouts?" + url.Values{"before": {strconv.FormatUint(next, 10)}}.Encode()
		}
		return d, err
	}, nil
}

// rolloutData is the page of one.
type rolloutData struct {
	rollouts.Rollout
	Progress rollouts.Progress
	Waves    []wave
	Nodes    []nodeRow
	Error    string
	Why      []queue.Reason
	Left     bool   // it takes back nothing
	Hold     string // pause or resume, if it can be
	Operator bool
}

// Title implements what show asks for.
func (d rolloutData) Title() string { return string(d.ID) }

// Open reports whether it has not ended.
func (d rolloutData) Open() bool { return !d.State.Ended() }

// Reopens reports whether it can be tried again.
func (d rolloutData) Reopens() bool { return d.State.Ended() && d.State != jobs.Done }

// wave is one, and how many of its containers are in each state.
type wave struct {
	rollouts.Wave
	By map[string]int
}

// Begun reports whether one of its containers has a job.
func (w wave) Begun() bool { return w.By[rollouts.Wanted] < len(w.Containers) }

// Said is how it stands in a few words.
func (w wave) Said() string { return said(w.By) }

// nodeRow is a machine, and how many of its containers are in each state.
type nodeRow struct {
	Node string
	N    int
	By   map[string]int
}

// Said is how it stands in a few words.
func (n nodeRow) Said() string { return said(n.By) }

// containerStates are those of containers, the most urgent first.
var containerStates = []string{string(jobs.Dead), string(jobs.Failed), string(jobs.Cancelled), string(jobs.Retry), string(jobs.Running),
	string(jobs.Waiting), string(jobs.Queued), string(jobs.Done), rollouts.Wanted}

func said(by map[string]int) string {
	var parts []string
	for _, s := range containerStates {
		if by[s] > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", count(by[s]), label(s)))
		}
	}
	return strings.Join(parts, ", ")
}

func (p *Page) rollout(r *http.Request, v Viewer) (reader, error) {
	id := jobs.ID(r.PathValue("id"))
	return func(ctx context.Context) (any, error) {
		if _, err := p.statusOf(ctx, v, id); err != nil {
			return nil, err
		}
		read, err := rollouts.Read(ctx, p.client, id)
		if err != nil {
			return nil, err
		}
		d := rolloutData{Rollout: read, Progress: read.Progress(), Nodes: byNode(read.Containers), Error: short(failure(read.Status)),
			Left: rollouts.Left(read.Status), Operator: v.Operator}
		for _, w := range read.Waves() {
			d.Waves = append(d.Waves, wave{w, tally(w.Containers)})
		}
		if d.Open() {
			d.Hold = pause.path
		}
		if d.Paused != nil {
			d.Hold = resume.path
		}
		if d.State == jobs.Queued || d.State == jobs.Retry {
			x, err := p.client.Explain(ctx, id)
			if err != nil {
				return nil, err
			}
			d.Why = x.Reasons
		}
		return d, nil
	}, nil
}

func tally(list []rollouts.Container) map[string]int {
	by := map[string]int{}
	for _, c := range list {
		by[c.State]++
	}
	return by
}

// byNode are the machines of containers by name, those on which something failed first.
func byNode(list []rollouts.Container) (rows []nodeRow) {
	on := map[string][]rollouts.Container{}
	for _, c := range list {
		on[c.Node] = append(on[c.Node], c)
	}
	for node, all := range on {
		rows = append(rows, nodeRow{node, len(all), tally(all)})
	}
	failed := func(n nodeRow) int { return n.By[string(jobs.Failed)] + n.By[string(jobs.Dead)] }
	slices.SortFunc(rows, func(a, b nodeRow) int {
		return cmp.Or(cmp.Compare(failed(b), failed(a)), cmp.Compare(a.Node, b.Node))
	})
	return rows
}

// bar draws how far a rollout is, in the order of a life. Widths are attributes of SVG: a
// style would be inline.
func bar(p rollouts.Progress) template.HTML {
	var b strings.Builder
	text := fmt.Sprintf("%d of %d replicas done, %d failed, %d running, %d wanted", p.Done, p.Total, p.Failed, p.Running, p.Wanted)
	fmt.Fprintf(&b, `<svg class="bar" viewBox="0 0 %d 10" preserveAspectRatio="none" role="img" aria-label="%s">`, max(p.Total, 1), text)
	x := 0
	for _, part := range []struct {
		class string
		n     int
	}{{"done", p.Done}, {"failed", p.Failed}, {"running", p.Running}, {"wanted", p.Wanted}} {
		if part.n > 0 {
			fmt.Fprintf(&b, `<rect class="%s" x="%d" y="0" width="%d" height="10"/>`, part.class, x, part.n)
		}
		x += part.n
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) // numbers, and words of our own
}
