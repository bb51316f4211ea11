package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/console/rollouts"
	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/spf13/cobra"
)

func (a *app) rolloutCommand() *cobra.Command {
	var p poolFlags
	cmd := &cobra.Command{Use: "rollout", Short: "Look at rollouts of checkpoints, pause, resume and abort them"}
	group(cmd)
	p.add(cmd.PersistentFlags())
	cmd.AddCommand(&cobra.Command{
		Use:   "status ID",
		Short: "Show how far a rollout is, container by container",
		Long: `Show how far a rollout is, container by container: wanted (its wave has not begun), queued,
running (it is being restored), done (it was restored), failed and why. One that was restored
and taken back later is shown as done: the rollout's own error tells of that.`,
		Args: oneJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPool(cmd.Context(), &p, func(client *queue.Client) error {
				return a.rolloutStatus(cmd.Context(), client, jobs.ID(args[0]))
			})
		},
	})
	cmd.AddCommand(a.rolloutPauseCommand(&p), a.rolloutResumeCommand(&p), a.rolloutAbortCommand(&p))
	return cmd
}

func (a *app) rolloutStatus(ctx context.Context, client *queue.Client, id jobs.ID) error {
	r, err := getRollout(ctx, client, id)
	if err != nil {
		return err
	}
	return a.printRolloutStatus(r)
}

func getRollout(ctx context.Context, client *queue.Client, id jobs.ID) (rollouts.Rollout, error) {
	r, err := rollouts.Read(ctx, client, id)
	return r, rolloutError(err)
}

// rolloutError makes a wrong argument of a job that is no rollout.
func rolloutError(err error) error {
	if errdefs.IsInvalidArgument(err) {
		return usageError{err}
	}
	return err
}

func (a *app) printRolloutStatus(r rollouts.Rollout) error {
	if a.output == "json" {
		return a.printJSON(struct {
			ID         jobs.ID              `json:"id"`
			State      jobs.State           `json:"state"`
			Paused     *queue.JobPause      `json:"paused,omitempty"`
			Containers []rollouts.Container `json:"containers"`
		}{r.ID, r.State, r.Paused, r.Containers})
	}
	fmt.Fprintf(a.out, "%s is %s\n", r.ID, r.State)
	if r.Paused != nil {
		fmt.Fprintln(a.out, saidPaused(*r.Paused))
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tCONTAINER\tSTATE\tWHY")
	for _, c := range r.Containers {
		why, _, _ := strings.Cut(c.Reason, "\n")
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Node, c.Name, c.State, cmp.Or(why, "-"))
	}
	return errors.Join(w.Flush(), a.tellLeft(r.Status))
}

// tellLeft says of a rollout that was ended from outside, and so takes nothing back, what does.
func (a *app) tellLeft(st queue.Status) error {
	if a.output == "json" || !rollouts.Left(st) {
		return nil
	}
	_, err := fmt.Fprintf(a.err, "lithify: what %s has restored is left as it is: lithify rollout abort %s removes it\n", st.ID, st.ID)
	return err
}
