package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/lithify/lithify/jobs"
	rolloutjob "github.com/lithify/lithify/jobs/rollout"
	"github.com/lithify/lithify/queue"
	"github.com/spf13/cobra"
)

func (a *app) rolloutCommand() *cobra.Command {
	var p poolFlags
	cmd := &cobra.Command{Use: "rollout", Short: "Look at rollouts of checkpoints, and abort them"}
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
	cmd.AddCommand(a.rolloutAbortCommand(&p))
	return cmd
}

// containerStatus is one container of a rollout.
type containerStatus struct {
	Node   string  `json:"node"`
	Name   string  `json:"name"`
	Job    jobs.ID `json:"job"`
	State  string  `json:"state"`
	Reason string  `json:"reason,omitempty"`
}

// wanted is the state of a container whose wave has not begun.
const wanted = "wanted"

func (a *app) rolloutStatus(ctx context.Context, client *queue.Client, id jobs.ID) error {
	st, args, err := getRollout(ctx, client, id)
	if err != nil {
		return err
	}
	list, ids, err := planned(id, args)
	if err != nil {
		return err
	}
	found, err := client.GetAll(ctx, ids, "", 0)
	if err != nil {
		return err
	}
	for i := range list {
		c := &list[i]
		child, ok := found[c.Job]
		if c.State = wanted; ok {
			c.State = string(child.State)
		}
		switch {
		case child.Failure != nil && child.State != jobs.Done:
			c.Reason = child.Failure.Message
		default:
			c.Reason = child.Reason
		}
	}
	return a.printRolloutStatus(st, list)
}

// planned are the containers of a rollout, in their order, with the jobs that restore them.
func planned(id jobs.ID, args rolloutjob.Args) (list []containerStatus, ids []jobs.ID, err error) {
	for _, r := range args.All() {
		for _, one := range r.Containers {
			job, err := rolloutjob.RestoreID(id, one)
			if err != nil {
				return nil, nil, err
			}
			list, ids = append(list, containerStatus{Node: one.Node, Name: one.Name, Job: job}), append(ids, job)
		}
	}
	return list, ids, nil
}

func (a *app) printRolloutStatus(st queue.Status, list []containerStatus) error {
	if a.output == "json" {
		return a.printJSON(struct {
			ID         jobs.ID           `json:"id"`
			State      jobs.State        `json:"state"`
			Containers []containerStatus `json:"containers"`
		}{st.ID, st.State, list})
	}
	fmt.Fprintf(a.out, "%s is %s\n", st.ID, st.State)
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tCONTAINER\tSTATE\tWHY")
	for _, c := range list {
		why, _, _ := strings.Cut(c.Reason, "\n")
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Node, c.Name, c.State, cmp.Or(why, "-"))
	}
	return errors.Join(w.Flush(), a.tellLeft(st))
}

// tellLeft says of a rollout that was ended from outside, and so takes nothing back, what does.
func (a *app) tellLeft(st queue.Status) error {
	late := st.State == jobs.Failed && st.Failure != nil && st.Failure.Kind == jobs.KindDeadlineExceeded
	if a.output == "json" || st.Job.Kind != rolloutjob.Kind || st.State != jobs.Cancelled && !late {
		return nil
	}
	_, err := fmt.Fprintf(a.err, "lithify: what %s has restored is left as it is: lithify rollout abort %s removes it\n", st.ID, st.ID)
	return err
}
