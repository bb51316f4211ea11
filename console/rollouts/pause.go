package rollouts

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
	rolloutjob "github.com/lithify/lithify/jobs/rollout"
	"github.com/lithify/lithify/queue"
)

// Pause keeps a rollout from beginning anything more: no other container of the wave that it
// is in, and no other wave. What is being restored goes on. One that is paused already stays as
// it is. Errors are as those of [Read] and [queue.Client.PauseJob].
func Pause(ctx context.Context, client *queue.Client, id jobs.ID, by, reason string) (queue.JobPause, error) {
	if _, err := get(ctx, client, id); err != nil {
		return queue.JobPause{}, err
	}
	return client.PauseJob(ctx, id, by, reason)
}

// Resume ends a pause. Errors are as those of [Read] and [queue.Client.ResumeJob].
func Resume(ctx context.Context, client *queue.Client, id jobs.ID, by string) error {
	if _, err := get(ctx, client, id); err != nil {
		return err
	}
	return client.ResumeJob(ctx, id, by)
}

func get(ctx context.Context, client *queue.Client, id jobs.ID) (queue.Status, error) {
	st, err := client.Get(ctx, id)
	if err == nil && st.Job.Kind != rolloutjob.Kind {
		err = fmt.Errorf("job %s is a %s and no rollout: %w", id, st.Job.Kind, errdefs.ErrInvalidArgument)
	}
	return st, err
}
