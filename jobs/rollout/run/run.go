// Package run handles jobs of the kind rollout: in a pool only, by jobs of other kinds.
package run

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
	removejob "github.com/lithify/lithify/jobs/remove"
	restorejob "github.com/lithify/lithify/jobs/restore"
	rolloutjob "github.com/lithify/lithify/jobs/rollout"
)

// Register makes Run the handler of its kind.
func Register(m *jobs.Mux) {
	jobs.Handle(m, func(ctx context.Context, a rolloutjob.Args) (any, error) { return Run(ctx, a) })
}

// Result tells what was restored.
type Result struct {
	Containers []Container `json:"containers"`
	Failed     int         `json:"failed,omitempty"` // not more than allowed
}

// Container is one that was restored.
type Container struct {
	Name string  `json:"name"`
	Node string  `json:"node"`
	Job  jobs.ID `json:"job"`
}

// Run is called before each wave, and once after the last. It waits for the jobs of the
// next wave, and again for those of earlier ones that are done, so that it knows of them
// the next time. One that failed would run again if it were waited for again: what of an
// earlier wave is not known any more, has failed.
func Run(ctx context.Context, a rolloutjob.Args) (*Result, error) {
	if undone := undone(ctx); len(undone) > 0 {
		return nil, givenUp(undone)
	}
	s, err := look(ctx, a)
	if err != nil {
		return nil, jobs.Permanent(err)
	}
	if s.failed() > a.MaxFailed {
		return nil, s.giveUp(ctx, a)
	}
	if waves := a.Waves(); s.waves < len(waves) {
		next, err := restores(ctx, a, waves[s.waves])
		if err != nil {
			return nil, jobs.Permanent(err)
		}
		jobs.Event(ctx, "wave begins", "wave", s.waves+1, "containers", len(next), "restored", len(s.done), "failed", s.failed())
		return nil, jobs.Await(append(jobsOf(s.done), next...)...)
	}
	return s.result(), nil
}

// state is how far a rollout has come.
type state struct {
	waves   int // that have ended
	planned int // containers of these
	done    []restored
	errs    []string // of the last of them
}

// restored is a container, and the job that has made it.
type restored struct {
	args restorejob.Args
	job  jobs.Job
}

func (s *state) failed() int { return s.planned - len(s.done) }

// look finds the last wave that was waited for, and what became of it and of those before.
func look(ctx context.Context, a rolloutjob.Args) (*state, error) {
	children := map[string]jobs.Child{} // by the container's name
	for _, c := range jobs.Children(ctx) {
		args, err := jobs.DecodeArgs[restorejob.Args](c.Job.Args)
		if err != nil {
			return nil, err
		}
		children[args.Name] = c
	}
	s := &state{}
	planned := 0
	for i, wave := range a.Waves() {
		planned += len(wave)
		var errs []string
		known := false
		for _, one := range wave {
			c, ok := children[one.Name]
			known = known || ok
			if err := c.Record.Err(); ok && err != nil {
				errs = append(errs, fmt.Sprintf("%s on %s: %v", one.Name, one.Node, err))
			} else if ok {
				s.done = append(s.done, restored{one, c.Job})
			}
		}
		if known {
			s.waves, s.planned, s.errs = i+1, planned, errs
		}
	}
	return s, nil
}

// restores are the jobs of a wave: the same, however often they are asked for.
func restores(ctx context.Context, a rolloutjob.Args, wave []restorejob.Args) (js []jobs.Job, err error) {
	for _, one := range wave {
		j, err := jobs.New(one, options(ctx, one.Name, cmp.Or(a.Timeout, rolloutjob.DefaultTimeout)))
		if err != nil {
			return nil, err
		}
		js = append(js, j)
	}
	return js, nil
}

// options are those of a job for one container, which has no longer than its rollout.
func options(ctx context.Context, key string, timeout time.Duration) jobs.Options {
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, max(time.Until(deadline), time.Second))
	}
	return jobs.Options{IdempotencyKey: string(jobs.IDOf(ctx)) + "/" + key, Timeout: timeout}
}

func jobsOf(done []restored) (js []jobs.Job) {
	for _, r := range done {
		js = append(js, r.job)
	}
	return js
}

func (s *state) result() *Result {
	r := &Result{Failed: s.failed()}
	for _, d := range s.done {
		r.Containers = append(r.Containers, Container{d.args.Name, d.args.Node, d.job.ID})
	}
	return r
}

// giveUp ends a rollout of which too much has failed: once what was restored is removed, if
// it is not to be kept.
func (s *state) giveUp(ctx context.Context, a rolloutjob.Args) error {
	why := fmt.Sprintf("given up after wave %d of %d: %d of %d containers failed, and %d may: %s",
		s.waves, len(a.Waves()), s.failed(), s.planned, a.MaxFailed, strings.Join(s.errs, "; "))
	if a.Keep || len(s.done) == 0 {
		return jobs.Permanent(fmt.Errorf("%s (%d are left running): %w", why, len(s.done), errdefs.ErrFailedPrecondition))
	}
	jobs.Event(ctx, "rollout is taken back", "containers", len(s.done), "why", why)
	var removes []jobs.Job
	for _, d := range s.done {
		args := removejob.Args{Name: d.args.Name, Job: d.job.ID, Node: d.args.Node, Namespace: d.args.Namespace, Why: why}
		j, err := jobs.New(args, options(ctx, "remove/"+d.args.Name, rolloutjob.DefaultTimeout))
		if err != nil {
			return jobs.Permanent(err)
		}
		removes = append(removes, j)
	}
	return jobs.Await(removes...)
}

// undone are the jobs that have taken a rollout back, sorted by their containers.
func undone(ctx context.Context) (removes []jobs.Child) {
	for _, c := range jobs.Children(ctx) {
		if c.Job.Kind == removejob.Kind {
			removes = append(removes, c)
		}
	}
	slices.SortFunc(removes, func(a, b jobs.Child) int { return cmp.Compare(a.Job.ID, b.Job.ID) })
	return removes
}

// givenUp is the end of a rollout that was taken back.
func givenUp(removes []jobs.Child) error {
	var why string
	var left []string
	for _, c := range removes {
		args, err := jobs.DecodeArgs[removejob.Args](c.Job.Args)
		if err != nil {
			return jobs.Permanent(err)
		}
		why = args.Why
		if err := c.Record.Err(); err != nil {
			left = append(left, fmt.Sprintf("%s on %s: %v", args.Name, args.Node, err))
		}
	}
	if len(left) > 0 {
		return jobs.Permanent(fmt.Errorf("%s; of the others these may still run: %s: %w", why, strings.Join(left, "; "), errdefs.ErrFailedPrecondition))
	}
	return jobs.Permanent(fmt.Errorf("%s; the %d others were removed again: %w", why, len(removes), errdefs.ErrFailedPrecondition))
}
