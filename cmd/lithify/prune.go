package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/lithify/lithify/jobs"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	prunejob "github.com/lithify/lithify/jobs/prune"
	prunerun "github.com/lithify/lithify/jobs/prune/run"
	"github.com/lithify/lithify/restore/retain"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const pruneLong = `Show which checkpoints of a repository are kept for long enough, and with --delete remove
them from the registry, with their signatures. REPOSITORY is one of a registry, without a tag.

Of each container, and of each set of containers, the newest --keep stay, and whatever is
younger than --older-than; what is neither goes. What has a tag that --except matches stays, and
so does what says that it was taken in the future: it is not one of the newest.
Only what a tag names is found, and of sets also those that it named before. What lithify
checkpoint has not made is left alone, cosign's signatures that have a tag as well. What is in
a checkpoint is the registry's to collect afterwards; of a split one that is what no other
manifest names.`

func (a *app) pruneCheckpointsCommand() *cobra.Command {
	var job prunejob.Args
	cmd := &cobra.Command{
		Use:   "prune REPOSITORY",
		Short: "Remove old checkpoints from a registry",
		Long:  pruneLong,
		Example: `  lithify checkpoint prune --keep 3 --older-than 720h registry.example.com/checkpoints/web
  lithify checkpoint prune --keep 1 --delete registry.example.com/checkpoints/web`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := pruneArgs(job, args[0])
			if err != nil {
				return err
			}
			plan, err := prunerun.Handler{}.Run(cmd.Context(), job)
			if plan == nil {
				return err
			}
			return errors.Join(a.printPlan(plan, job.Delete), err)
		},
	}
	addPrune(cmd.Flags(), &job)
	return cmd
}

func addPrune(fs *pflag.FlagSet, job *prunejob.Args) {
	fs.IntVar(&job.Keep, "keep", 0, "keep so many of each container, the newest (default none)")
	fs.DurationVar(&job.OlderThan, "older-than", 0, "keep what is younger, as 720h (default nothing)")
	fs.StringArrayVar(&job.Except, "except", nil, "keep what has a tag of this pattern, as keep-*; may be repeated")
	fs.BoolVar(&job.Delete, "delete", false, "remove them; without it they are only shown")
	fs.BoolVar(&job.Insecure, "insecure", false, "speak plain HTTP to the registry")
}

func pruneArgs(job prunejob.Args, repository string) (prunejob.Args, error) {
	job.Repository = repository
	err := job.Validate()
	if err == nil {
		_, err = convertrun.Handler{}.Manage(repository, job.Insecure) // asks nobody
	}
	if err != nil {
		return job, usageError{err}
	}
	return job, nil
}

func (a *app) submitPruneCommand() *cobra.Command {
	var job prunejob.Args
	s := submission{result: printed(a.printPruned)}
	cmd := &cobra.Command{
		Use:   "prune REPOSITORY",
		Short: "Remove old checkpoints from a registry in the pool",
		Long: `Have a worker remove old checkpoints, with its own credentials. See lithify checkpoint prune,
and lithify cron add prune for a timetable of that.

stdout gets the job's ID; with --wait it gets how many were deleted. The job's history (lithify
jobs watch ID) says which.`,
		Example: `  lithify submit prune --wait --keep 3 --delete registry.example.com/checkpoints/web`,
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.submit(cmd.Context(), &s, func() (jobs.Args, error) { return pruneArgs(job, args[0]) })
		},
	}
	addPrune(cmd.Flags(), &job)
	s.add(cmd.Flags())
	return cmd
}

func (a *app) cronAddPrune(p *poolFlags) *cobra.Command {
	var job prunejob.Args
	var t timetable
	cmd := &cobra.Command{
		Use:     "prune NAME SCHEDULE REPOSITORY",
		Short:   "Remove old checkpoints from a registry by a timetable",
		Long:    "Remove old checkpoints by a timetable. See lithify checkpoint prune; without --delete nothing is removed.",
		Example: `  lithify cron add prune old-web @daily --keep 3 --older-than 720h --delete registry.example.com/checkpoints/web`,
		Args:    exactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.setCron(cmd.Context(), p, t, args, func() (jobs.Args, error) { return pruneArgs(job, args[2]) })
		},
	}
	addPrune(cmd.Flags(), &job)
	t.add(cmd.Flags())
	return cmd
}

func (a *app) printPruned(r *prunerun.Result) error {
	if a.output == "json" {
		return a.printJSON(r)
	}
	_, err := fmt.Fprintf(a.out, "%d deleted of %d that are kept for long enough, %d stay\n", r.Deleted, r.Go, r.Stay)
	return err
}

func (a *app) printPlan(p *retain.Plan, removed bool) error {
	if a.output == "json" {
		return a.printJSON(p)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CONTAINERS\tTAKEN\tDIGEST\tTAGS\tWHAT")
	gone := 0
	for _, item := range p.Items {
		what := "stays: " + item.Stays
		if item.Stays == "" {
			gone++
			switch what = "to be deleted"; {
			case item.Deleted:
				what = "deleted"
			case removed:
				what = "not deleted"
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", strings.Join(item.Containers, ","), item.Taken.Local().Format(time.DateTime), item.Digest, strings.Join(item.Tags, ","), what)
	}
	if err := w.Flush(); err != nil || removed || gone == 0 {
		return err
	}
	fmt.Fprintf(a.err, "%d would be deleted: say --delete\n", gone)
	return nil
}
