package run

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
	removejob "github.com/lithify/lithify/jobs/remove"
	restorejob "github.com/lithify/lithify/jobs/restore"
	rolloutjob "github.com/lithify/lithify/jobs/rollout"
)

// state is how far a rollout has come.
type state struct {
	args rolloutjob.Args
	all  []*replica
}

type replica struct {
	rolloutjob.Replica
	containers []*container
}

// container is one of a replica, with the last job for it that has ended: that which
// restores it, or which removes it. nil: there is none.
type container struct {
	args            restorejob.Args
	restore, remove *jobs.Child
}

// look finds what became of the jobs that were waited for.
func look(ctx context.Context, a rolloutjob.Args) (*state, error) {
	named := map[string]*container{}
	s := &state{args: a}
	for _, r := range a.All() {
		one := &replica{Replica: r}
		for _, args := range r.Containers {
			c := &container{args: args}
			one.containers, named[args.Name] = append(one.containers, c), c
		}
		s.all = append(s.all, one)
	}
	for _, child := range jobs.Children(ctx) {
		var args struct {
			Name string `json:"name"`
		}
		if err := json.Unmarshal(child.Job.Args, &args); err != nil {
			return nil, fmt.Errorf("job %s: %w", child.Job.ID, err)
		}
		c := named[args.Name]
		switch {
		case c == nil:
			return nil, fmt.Errorf("job %s is for %s, which is none of the rollout's containers: %w", child.Job.ID, args.Name, errdefs.ErrInternal)
		case child.Job.Kind == removejob.Kind:
			c.remove = &child
		default:
			c.restore = &child
		}
	}
	return s, nil
}

// begun reports whether a wave has had the replica.
func (r *replica) begun() bool {
	return slices.ContainsFunc(r.containers, func(c *container) bool { return c.restore != nil || c.remove != nil })
}

// broken reports whether one of its containers could not be restored.
func (r *replica) broken() bool {
	return slices.ContainsFunc(r.containers, func(c *container) bool { return c.restore != nil && c.restore.Record.State != jobs.Done })
}

// runs reports whether all of it was restored and is to stay.
func (r *replica) runs() bool {
	return !slices.ContainsFunc(r.containers, func(c *container) bool { return c.restore == nil || c.restore.Record.State != jobs.Done })
}

func (s *state) count(which func(*replica) bool) (n int) {
	for _, r := range s.all {
		if which(r) {
			n++
		}
	}
	return n
}

func (s *state) begun() int  { return s.count((*replica).begun) }
func (s *state) failed() int { return s.count((*replica).broken) }

const (
	// maxReasons bounds how many are told of, and maxReason how long each is: an error is
	// for people, and its record is read whole.
	maxReasons = 20
	maxReason  = 400
)

// reasons say why containers could not be restored, node by node.
func (s *state) reasons() []string {
	return s.errs(func(c *container) *jobs.Child { return c.restore })
}

// left say which containers could not be removed.
func (s *state) left() []string {
	return s.errs(func(c *container) *jobs.Child { return c.remove })
}

func (s *state) errs(of func(*container) *jobs.Child) (errs []string) {
	all := slices.Clone(s.all)
	slices.SortStableFunc(all, func(a, b *replica) int { return strings.Compare(a.Node, b.Node) })
	more := 0
	for _, r := range all {
		for _, c := range r.containers {
			child := of(c)
			if child == nil || child.Record.Err() == nil {
				continue
			}
			if len(errs) == maxReasons {
				more++
				continue
			}
			errs = append(errs, fmt.Sprintf("%s on %s: %s", c.args.Name, c.args.Node, short(reason(child.Record))))
		}
	}
	if more > 0 {
		errs = append(errs, fmt.Sprintf("and %d others", more))
	}
	return errs
}

// reason is why a job has no result, without its ID.
func reason(r jobs.Record) string {
	switch {
	case r.Failure != nil && r.State != jobs.Cancelled:
		return r.Failure.Message
	case r.Reason != "":
		return fmt.Sprintf("%s: %s", r.State, r.Reason)
	}
	return string(r.State)
}

// short cuts what is too long, of a log for example, out of its middle.
func short(s string) string {
	if len(s) <= maxReason {
		return s
	}
	return strings.ToValidUTF8(s[:maxReason*3/4], "") + " ... " + strings.ToValidUTF8(s[len(s)-maxReason/4:], "")
}
