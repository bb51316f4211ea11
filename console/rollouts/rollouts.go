// Package rollouts tells how far a rollout is, from the records of its jobs: wave by wave and
// container by container, for the command line and for the web page.
package rollouts

import (
	"context"

	"github.com/lithify/lithify/jobs"
	rolloutjob "github.com/lithify/lithify/jobs/rollout"
	"github.com/lithify/lithify/queue"
)

// Rollout is one as it stood when it was read.
type Rollout struct {
	queue.Status
	Args       rolloutjob.Args
	Containers []Container     // in the order in which they are begun
	Paused     *queue.JobPause // if it is
}

// Container is one that a rollout restores.
type Container struct {
	Node   string  `json:"node"`
	Name   string  `json:"name"`
	Job    jobs.ID `json:"job"`   // that restores it
	State  string  `json:"state"` // the job's, or Wanted
	Reason string  `json:"reason,omitempty"`

	Replica int `json:"-"` // of which it is a part, from 0
}

// Wanted is the state of a container whose wave has not begun.
const Wanted = "wanted"

// Read finds a rollout. An unknown job is errdefs.ErrNotFound, one of another kind
// errdefs.ErrInvalidArgument.
func Read(ctx context.Context, client *queue.Client, id jobs.ID) (Rollout, error) {
	st, err := get(ctx, client, id)
	r := Rollout{Status: st}
	if err != nil {
		return r, err
	}
	if r.Args, err = jobs.DecodeArgs[rolloutjob.Args](st.Job.Args); err != nil {
		return r, err
	}
	if r.Containers, err = planned(id, r.Args); err != nil {
		return r, err
	}
	found, err := client.GetAll(ctx, r.Jobs(), "", 0)
	if err != nil {
		return r, err
	}
	for i := range r.Containers {
		r.Containers[i].stand(found)
	}
	controls, err := client.Controls(ctx)
	if x, ok := controls.PausedJob(id); ok && !st.State.Ended() {
		r.Paused = &x
	}
	return r, err
}

// Jobs are those that restore the containers, in their order.
func (r Rollout) Jobs() []jobs.ID {
	ids := make([]jobs.ID, len(r.Containers))
	for i, c := range r.Containers {
		ids[i] = c.Job
	}
	return ids
}

// planned are the containers of a rollout, in their order.
func planned(id jobs.ID, args rolloutjob.Args) (list []Container, err error) {
	for i, r := range args.All() {
		for _, one := range r.Containers {
			job, err := rolloutjob.RestoreID(id, one)
			if err != nil {
				return nil, err
			}
			list = append(list, Container{Node: one.Node, Name: one.Name, Job: job, State: Wanted, Replica: i})
		}
	}
	return list, nil
}

// stand has a container be as its job is.
func (c *Container) stand(found map[jobs.ID]queue.Status) {
	st, ok := found[c.Job]
	if !ok {
		return
	}
	c.State, c.Reason = string(st.State), st.Reason
	if st.Failure != nil && st.State != jobs.Done {
		c.Reason = st.Failure.Message
	}
}

// Left reports whether it was ended from outside, and so takes back nothing of what it has
// restored.
func Left(st queue.Status) bool {
	late := st.State == jobs.Failed && st.Failure != nil && st.Failure.Kind == jobs.KindDeadlineExceeded
	return st.Job.Kind == rolloutjob.Kind && (st.State == jobs.Cancelled || late)
}
