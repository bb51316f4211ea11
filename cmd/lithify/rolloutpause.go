package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/lithify/lithify/console/rollouts"
	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/spf13/cobra"
)

func (a *app) rolloutPauseCommand(p *poolFlags) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "pause ID",
		Short: "Begin no other container of a rollout, and no other wave",
		Long: `Begin no other container of a rollout, and no other wave, until "rollout resume". What is
being restored goes on; a container that was queued and not begun is held. "rollout status",
"jobs explain" and the console's page say who paused it and why.

Its timeout, and those of the containers that are held, stand still: what was left of them is
left when it is resumed. One that is paused already stays so, as it was. It can be aborted and
cancelled as ever.`,
		Args: oneJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPool(cmd.Context(), p, func(client *queue.Client) error {
				return a.pauseRollout(cmd.Context(), client, jobs.ID(args[0]), reason)
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who wonder")
	return cmd
}

func (a *app) pauseRollout(ctx context.Context, client *queue.Client, id jobs.ID, reason string) error {
	x, err := rollouts.Pause(ctx, client, id, myName(), reason)
	if err != nil {
		return rolloutError(err)
	}
	if a.output == "json" {
		return a.printJSON(x)
	}
	_, err = fmt.Fprintln(a.out, saidPaused(x))
	return err
}

func saidPaused(x queue.JobPause) string {
	s := fmt.Sprintf("%s is paused since %s by %s", x.Job, x.Since.Local().Format(time.DateTime), cmp.Or(x.By, "somebody"))
	if x.Reason != "" {
		s += ": " + x.Reason
	}
	return s
}

func (a *app) rolloutResumeCommand(p *poolFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "resume ID",
		Short: "Have a rollout go on that was paused",
		Args:  oneJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPool(cmd.Context(), p, func(client *queue.Client) error {
				return rolloutError(rollouts.Resume(cmd.Context(), client, jobs.ID(args[0]), myName()))
			})
		},
	}
}
