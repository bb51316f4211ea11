// Package run handles jobs of the kind rollout: in a pool only, by jobs of other kinds.
package run

import (
	"cmp"
	"context"
	"time"

	"github.com/lithify/lithify/jobs"
	removejob "github.com/lithify/lithify/jobs/remove"
	rolloutjob "github.com/lithify/lithify/jobs/rollout"
)

// Register makes Run the handler of its kind.
func Register(m *jobs.Mux) {
	jobs.Handle(m, func(ctx context.Context, a rolloutjob.Args) (any, error) { return Run(ctx, a) })
}

// Result tells what was restored.
type Result struct {
	Containers []Container `json:"containers"`
	Failed     int         `json:"failed,omitempty"`  // replicas, not more than allowed
	Reasons    []string    `json:"reasons,omitempty"` // why these did, some of them if they are many
}

// Container is one that was restored.
type Container struct {
	Name string  `json:"name"`
	Node string  `json:"node"`
	Job  jobs.ID `json:"job"`
}

// Run is called before each wave, and once after the last. What it does follows from how
// the jobs have ended that it has waited for so far, of which each container has one: that
// which restores it or, later, that which removes it.
func Run(ctx context.Context, a rolloutjob.Args) (*Result, error) {
	s, err := look(ctx, a)
	if err != nil {
		return nil, jobs.Permanent(err)
	}
	if s.failed() > a.MayFail() {
		return nil, s.giveUp(ctx)
	}
	next, err := s.next(ctx)
	if err != nil {
		return nil, jobs.Permanent(err)
	}
	clear, err := s.removes(ctx, (*replica).broken, "another container of its replica failed")
	if err != nil {
		return nil, jobs.Permanent(err)
	}
	if len(next)+len(clear) == 0 {
		return s.result(), nil
	}
	if len(next) > 0 {
		jobs.Event(ctx, "wave begins", "containers", len(next), "replicas", s.begun(), "of", a.Total(), "failed", s.failed())
	}
	return nil, s.await(append(next, clear...))
}

// next are the jobs of the next wave: the same, however often they are asked for.
func (s *state) next(ctx context.Context) (js []jobs.Job, err error) {
	begun := s.begun()
	for _, r := range s.all[begun : begun+s.args.Next(begun, s.failed())] {
		for _, c := range r.containers {
			j, err := jobs.New(c.args, options(ctx, c.args.Name, cmp.Or(s.args.Timeout, rolloutjob.DefaultTimeout)))
			if err != nil {
				return nil, err
			}
			js = append(js, j)
		}
	}
	return js, nil
}

// removes are the jobs that take back what runs, or may run, of some replicas.
func (s *state) removes(ctx context.Context, which func(*replica) bool, why string) (js []jobs.Job, err error) {
	for _, r := range s.all {
		if !which(r) {
			continue
		}
		for _, c := range r.containers {
			if c.restore == nil || c.remove != nil || c.restore.Record.State != jobs.Done {
				continue
			}
			args := removejob.Args{Name: c.args.Name, Job: c.restore.Job.ID, Node: c.args.Node, Namespace: c.args.Namespace, Why: why}
			j, err := jobs.New(args, options(ctx, "remove/"+c.args.Name, rolloutjob.DefaultTimeout))
			if err != nil {
				return nil, err
			}
			js = append(js, j)
		}
	}
	return js, nil
}

// options are those of a job for one container, which has no longer than its rollout.
func options(ctx context.Context, key string, timeout time.Duration) jobs.Options {
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, max(time.Until(deadline), time.Second))
	}
	return jobs.Options{IdempotencyKey: rolloutjob.Key(jobs.IDOf(ctx), key), Timeout: timeout}
}

// await waits for jobs, and to be told again of the others.
func (s *state) await(js []jobs.Job) error {
	again := map[string]bool{}
	for _, j := range js {
		if j.Kind == removejob.Kind {
			if args, err := jobs.DecodeArgs[removejob.Args](j.Args); err == nil {
				again[args.Name] = true // instead of the job that has restored it
			}
		}
	}
	var known []jobs.ID
	for _, r := range s.all {
		for _, c := range r.containers {
			switch {
			case c.remove != nil:
				known = append(known, c.remove.Job.ID)
			case c.restore != nil && !again[c.args.Name]:
				known = append(known, c.restore.Job.ID)
			}
		}
	}
	return jobs.AwaitWith(known, js...)
}

func (s *state) result() *Result {
	r := &Result{Containers: []Container{}, Failed: s.failed(), Reasons: s.reasons()}
	for _, one := range s.all {
		for _, c := range one.containers {
			if one.runs() {
				r.Containers = append(r.Containers, Container{c.args.Name, c.args.Node, c.restore.Job.ID})
			}
		}
	}
	return r
}
