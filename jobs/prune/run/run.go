// Package run handles jobs of the kind prune. `lithify checkpoint prune` calls the same handler
// without a queue.
package run

import (
	"context"

	"github.com/lithify/lithify/jobs"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	prunejob "github.com/lithify/lithify/jobs/prune"
	"github.com/lithify/lithify/restore/retain"
)

// Handler prunes repositories. Convert says how registries are reached.
type Handler struct{ Convert convertrun.Handler }

// Result counts. Which checkpoints were deleted the job's events tell.
type Result struct {
	Repository string `json:"repository"`
	Stay       int    `json:"stay"`
	Go         int    `json:"go"` // what does not stay
	Deleted    int    `json:"deleted"`
	Others     int    `json:"others"` // tags of what is none of ours
}

// Register makes h the handler of its kind.
func (h Handler) Register(m *jobs.Mux) {
	jobs.Handle(m, func(ctx context.Context, a prunejob.Args) (any, error) {
		plan, err := h.Run(ctx, a)
		if plan == nil {
			return nil, convertrun.Classify(err)
		}
		r := Result{Repository: plan.Repository, Others: plan.Others}
		for _, item := range plan.Items {
			if item.Stays != "" {
				r.Stay++
				continue
			}
			if r.Go++; item.Deleted {
				r.Deleted++
				jobs.Event(ctx, "checkpoint deleted", "digest", item.Digest, "containers", item.Containers, "taken", item.Taken)
			}
		}
		return r, convertrun.Classify(err)
	})
}

// Run looks which checkpoints are kept for long enough, and deletes them if that is wanted. After
// an error of a deletion the plan is there, too, and says what is gone.
func (h Handler) Run(ctx context.Context, a prunejob.Args) (*retain.Plan, error) {
	repo, err := h.Convert.Manage(a.Repository, a.Insecure)
	if err != nil {
		return nil, err
	}
	plan, err := retain.Look(ctx, repo, retain.Policy{Keep: a.Keep, OlderThan: a.OlderThan, Tags: a.Except})
	if err == nil && a.Delete {
		err = plan.Delete(ctx, repo)
	}
	return plan, convertrun.WithKind(err)
}
