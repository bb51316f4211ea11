package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	convertrun "github.com/lithify/lithify/jobs/convert/run"
	"github.com/lithify/lithify/restore/retain"
	"github.com/spf13/cobra"
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
	var policy retain.Policy
	var remove, insecure bool
	cmd := &cobra.Command{
		Use:   "prune REPOSITORY",
		Short: "Remove old checkpoints from a registry",
		Long:  pruneLong,
		Example: `  lithify checkpoint prune --keep 3 --older-than 720h registry.example.com/checkpoints/web
  lithify checkpoint prune --keep 1 --delete registry.example.com/checkpoints/web`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := policy.Validate(); err != nil {
				return usageError{err}
			}
			repo, err := convertrun.Handler{}.Manage(args[0], insecure)
			if err != nil {
				return usageError{err}
			}
			plan, err := retain.Look(cmd.Context(), repo, policy)
			if err != nil {
				return convertrun.WithKind(err)
			}
			if remove {
				err = plan.Delete(cmd.Context(), repo)
			}
			return errors.Join(a.printPlan(plan, remove), convertrun.WithKind(err))
		},
	}
	fs := cmd.Flags()
	fs.IntVar(&policy.Keep, "keep", 0, "keep so many of each container, the newest (default none)")
	fs.DurationVar(&policy.OlderThan, "older-than", 0, "keep what is younger, as 720h (default nothing)")
	fs.StringArrayVar(&policy.Tags, "except", nil, "keep what has a tag of this pattern, as keep-*; may be repeated")
	fs.BoolVar(&remove, "delete", false, "remove them; without it they are only shown")
	fs.BoolVar(&insecure, "insecure", false, "speak plain HTTP to the registry")
	return cmd
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
