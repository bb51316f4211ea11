package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/lithify/lithify/jobs"
	restorerun "github.com/lithify/lithify/jobs/restore/run"
	rolloutjob "github.com/lithify/lithify/jobs/rollout"
	rolloutrun "github.com/lithify/lithify/jobs/rollout/run"
	"github.com/spf13/cobra"
)

func (a *app) submitRolloutCommand() *cobra.Command {
	var f restoreFlags
	var job rolloutjob.Args
	var selector string
	s := submission{result: printed(a.printRollout)}
	cmd := &cobra.Command{
		Use:   "rollout SRC",
		Short: "Restore a checkpoint as many containers on many nodes",
		Long: `Restore a checkpoint as many containers on the nodes of a pool, in waves: each begins when
all containers of the one before run or have failed. --name and --hostname get -1, -2 and so
on behind them; the containers go to the nodes in turn. --selector is resolved to machines
now: those whose workers restore checkpoints, in the order of their names. If more fail than
--max-failed lets, no other wave begins, and what was restored is removed again. See lithify
submit restore.

SRC may be a set (lithify checkpoint --set). Each replica then has all of its containers, on
one node, as NAME-1-CONTAINER and so on; if one of these fails, the replica has failed, and
the others of it are removed.

A restore replaces nothing, so nothing is unavailable that was there before: --max-unavailable
counts the replicas that are begun and do not run yet, and those that have failed.

stdout gets the job's ID; with --wait it gets one line for each container, NODE NAME.`,
		Example: `  lithify submit rollout --wait --node node-1,node-2 --replicas 8 --canary 1 --wave 4 --name web registry.example.com/web:checkpoint`,
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (selector == "") == (len(job.Nodes) == 0) {
				return usageError{errors.New("want --node or --selector, which exclude each other: on which machines?")}
			}
			return a.submitTo(cmd.Context(), &s, func(p pool) (_ jobs.Args, err error) {
				job := job
				if selector != "" {
					if job.Nodes, err = a.selectNodes(cmd.Context(), p, selector); err != nil {
						return nil, err
					}
				}
				one, members, err := f.poolSet(cmd.Context(), args[0], restorerun.Resolve)
				if err != nil {
					return nil, err
				}
				job.Restore = one
				for _, m := range members {
					job.Set = append(job.Set, rolloutjob.Member{Container: m.Name, Checkpoint: m.Image.Digest})
				}
				return job, nil
			})
		},
	}
	f.add(cmd.Flags())
	f.addSecret(cmd.Flags())
	fs := cmd.Flags()
	fs.StringSliceVar(&job.Nodes, "node", nil, "machines to restore on, by their host names or what their workers call them (--node); may be repeated")
	fs.StringVar(&selector, "selector", "", "machines whose workers have these labels (--label), as zone=a,disk!=slow; node, host, os and arch are labels, too")
	fs.IntVar(&job.Replicas, "replicas", 0, "how many in all (default one for each node)")
	fs.IntVar(&job.Canary, "canary", 0, "replicas of the first wave (default as many as in the others)")
	fs.IntVar(&job.Wave, "wave", 0, "replicas at a time (default all)")
	fs.IntVar(&job.MaxFailed, "max-failed", 0, "go on as long as no more replicas than these have failed")
	fs.IntVar(&job.MinHealthy, "min-healthy", 0, "the same by how many have to run in the end (default all)")
	fs.IntVar(&job.MaxUnavailable, "max-unavailable", 0, "begin no more replicas than these at a time, less those that have failed (default any number)")
	fs.BoolVar(&job.Keep, "keep", false, "leave what runs where it is when the rollout is given up")
	fs.DurationVar(&job.Timeout, "container-timeout", rolloutjob.DefaultTimeout, "how long each container may take, the wait for its node included")
	s.add(fs)
	return cmd
}

func (a *app) printRollout(r *rolloutrun.Result) error {
	if a.output == "json" {
		return a.printJSON(r)
	}
	for _, c := range r.Containers {
		if _, err := fmt.Fprintln(a.out, c.Node, c.Name); err != nil {
			return err
		}
	}
	if r.Failed > 0 {
		fmt.Fprintf(a.err, "%d replicas failed, which were no more than allowed: %s\n", r.Failed, strings.Join(r.Reasons, "; "))
	}
	return nil
}
