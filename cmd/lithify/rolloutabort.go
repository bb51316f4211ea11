package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/console/rollouts"
	"github.com/lithify/lithify/jobs"
	removejob "github.com/lithify/lithify/jobs/remove"
	"github.com/lithify/lithify/queue"
	"github.com/spf13/cobra"
)

func (a *app) rolloutAbortCommand(p *poolFlags) *cobra.Command {
	timeout := 5 * time.Minute
	cmd := &cobra.Command{
		Use:   "abort ID",
		Short: "End a rollout, and remove what it has restored",
		Long: `End a rollout and remove all containers that it has restored, also those of one that has ended.
It is cancelled first, and nothing is removed before none of its jobs runs any more. What
has the name of one of its containers and was made by another is left alone.

stdout gets one line for each container that is gone, NODE NAME. A machine that cannot be
reached is waited for as long as --timeout says; its containers are named in the error, and
the same command may be given again when it is back.`,
		Args: oneJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			if timeout <= 0 { // which a job takes for its default, a day
				return usageError{fmt.Errorf("--timeout %v is not above zero", timeout)}
			}
			return a.withPool(cmd.Context(), p, func(client *queue.Client) error {
				return a.abortRollout(cmd.Context(), client, jobs.ID(args[0]), timeout)
			})
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "how long the removal of a container may take, the wait for its machine included")
	return cmd
}

func (a *app) abortRollout(ctx context.Context, client *queue.Client, id jobs.ID, timeout time.Duration) error {
	r, err := getRollout(ctx, client, id)
	if err != nil {
		return err
	}
	list, ids, st := r.Containers, r.Jobs(), r.Status
	if !st.State.Ended() {
		if _, err := client.Cancel(ctx, id, "the rollout is aborted"); err != nil && !errdefs.IsConflict(err) && !errdefs.IsFailedPrecondition(err) {
			return err // else it has ended just now
		}
	}
	// The rollout first: as long as it runs it may begin another wave.
	if err := ended(ctx, client, id); err != nil {
		return err
	}
	if err := ended(ctx, client, ids...); err != nil {
		return err
	}
	begun, err := client.GetAll(ctx, ids, "", 0)
	if err == nil {
		st, err = client.Get(ctx, id) // as it ended
	}
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(c rollouts.Container) bool {
		_, known := begun[c.Job]
		return !known && !slices.Contains(st.Children, c.Job) // a job that was begun may be forgotten
	})
	// Also of those that failed or were cancelled: the last moment of a restore may have made one.
	removes, err := submitRemoves(ctx, client, st.Record, r.Args.Restore.Namespace, list, timeout)
	if err != nil {
		return err
	}
	if err := ended(ctx, client, removes...); err != nil {
		return err
	}
	return a.printAborted(ctx, client, list, removes)
}

// askEvery is how often jobs are asked for that have not ended.
const askEvery = 500 * time.Millisecond

// ended waits until those of the jobs that there are have ended.
func ended(ctx context.Context, client *queue.Client, ids ...jobs.ID) error {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		found, err := client.GetAll(ctx, ids, "", 0)
		if err != nil {
			return err
		}
		open := false
		for _, st := range found {
			open = open || !st.State.Ended()
		}
		if !open {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// submitRemoves gives the IDs of the jobs that remove containers, in their order. Each abort
// has jobs of its own: what the last one did not reach is tried again.
func submitRemoves(ctx context.Context, client *queue.Client, rollout jobs.Record, namespace string, list []rollouts.Container, timeout time.Duration) (ids []jobs.ID, err error) {
	for _, c := range list {
		args := removejob.Args{Name: c.Name, Job: c.Job, Node: c.Node, Namespace: namespace, Why: fmt.Sprintf("rollout %s was aborted", rollout.ID)}
		j, err := jobs.New(args, jobs.Options{Timeout: timeout, Tenant: rollout.Tenant})
		if err != nil {
			return nil, err
		}
		if _, err := client.Submit(ctx, j); err != nil {
			return nil, err
		}
		ids = append(ids, j.ID)
	}
	return ids, nil
}

func (a *app) printAborted(ctx context.Context, client *queue.Client, list []rollouts.Container, removes []jobs.ID) (err error) {
	found, err := client.GetAll(ctx, removes, "", 0)
	if err != nil {
		return err
	}
	gone := []rollouts.Container{}
	for i, c := range list {
		if failed := found[removes[i]].Err(); failed != nil {
			err = errors.Join(err, fmt.Errorf("%s on %s may still run: %w", c.Name, c.Node, failed))
			continue
		}
		c.State = "removed"
		gone = append(gone, c)
	}
	slices.SortStableFunc(gone, func(a, b rollouts.Container) int { return cmp.Compare(a.Node, b.Node) })
	if a.output == "json" {
		return errors.Join(err, a.printJSON(gone))
	}
	for _, c := range gone {
		_, perr := fmt.Fprintln(a.out, c.Node, c.Name)
		err = errors.Join(err, perr)
	}
	return err
}
