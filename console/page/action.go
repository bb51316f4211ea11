package page

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/console/rollouts"
	"github.com/lithify/lithify/jobs"
	rolloutjob "github.com/lithify/lithify/jobs/rollout"
	"github.com/lithify/lithify/queue"
)

// action is what somebody may do to a job. It is asked for by a page of its own, so that it
// takes two steps and no script.
type action struct {
	path, verb string
	operator   bool // for operators only
	do         func(ctx context.Context, c *queue.Client, id jobs.ID, by, reason string) error
}

var (
	cancel = action{path: "cancel", verb: "Cancel", do: func(ctx context.Context, c *queue.Client, id jobs.ID, by, _ string) error {
		_, err := c.Cancel(ctx, id, "cancelled in the console by "+by)
		return err
	}}
	// Whoever may end a rollout may pause it.
	pause = action{path: "pause", verb: "Pause", do: func(ctx context.Context, c *queue.Client, id jobs.ID, by, reason string) error {
		_, err := rollouts.Pause(ctx, c, id, by, reason)
		return err
	}}
	resume = action{path: "resume", verb: "Resume", do: func(ctx context.Context, c *queue.Client, id jobs.ID, by, _ string) error {
		return rollouts.Resume(ctx, c, id, by)
	}}
	// A grant says who may submit what. What was submitted once may be more than that, so
	// only operators have it run again.
	retry = action{path: "retry", verb: "Retry", operator: true, do: func(ctx context.Context, c *queue.Client, id jobs.ID, _, _ string) error {
		_, err := c.Retry(ctx, id)
		return err
	}}
)

// confirmData is the page that asks whether somebody means it.
type confirmData struct {
	queue.Status
	What, Verb, Path, Back string
	Rollout                bool
}

// Title implements what show asks for.
func (d confirmData) Title() string { return d.Verb + " " + string(d.ID) }

func (p *Page) confirm(a action) func(*http.Request, Viewer) (reader, error) {
	return func(r *http.Request, v Viewer) (reader, error) {
		if err := a.allowed(v); err != nil {
			return nil, err
		}
		return func(ctx context.Context) (any, error) {
			st, err := p.statusOf(ctx, v, jobs.ID(r.PathValue("id")))
			return confirmData{Status: st, What: what(st), Verb: a.verb, Path: a.path, Back: jobPath(st), Rollout: st.Job.Kind == rolloutjob.Kind}, err
		}, nil
	}
}

func (a action) allowed(v Viewer) error {
	if a.operator && !v.Operator {
		return fmt.Errorf("%s is for operators of the pool: %w", a.path, errdefs.ErrPermissionDenied)
	}
	return nil
}

// act does it, and shows the job.
func (p *Page) act(a action) seenBy {
	return func(w http.ResponseWriter, r *http.Request, v Viewer) error {
		if err := a.allowed(v); err != nil {
			return err
		}
		st, err := p.statusOf(r.Context(), v, jobs.ID(r.PathValue("id")))
		if err != nil {
			return err
		}
		if err := a.do(r.Context(), p.client, st.ID, v.Name, strings.TrimSpace(r.PostFormValue("reason"))); err != nil {
			return err
		}
		p.log.InfoContext(r.Context(), "job changed by hand", "id", st.ID, "action", a.path, "by", v.Name)
		http.Redirect(w, r, jobPath(st), http.StatusSeeOther)
		return nil
	}
}

// jobPath is where a job is looked at.
func jobPath(st queue.Status) string {
	if st.Job.Kind == rolloutjob.Kind {
		return "/rollouts/" + string(st.ID)
	}
	return "/jobs/" + string(st.ID)
}
