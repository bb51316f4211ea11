package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/convert"
	convertjob "github.com/lithify/lithify/jobs/convert"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	"github.com/lithify/lithify/restore/checkpoint"
	"github.com/lithify/lithify/restore/set"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (f *checkpointFlags) addSet(fs *pflag.FlagSet) {
	fs.BoolVar(&f.set, "set", false, "checkpoint all CONTAINERs at one instant, and have DST name the set of their images")
}

// wanted is how many words the command takes.
func (f *checkpointFlags) wanted(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) < 2:
		return usageError{fmt.Errorf("want CONTAINER and DST, see %q", cmd.CommandPath()+" --help")}
	case len(args) > 2 && !f.set:
		return usageError{errors.New("several containers are checkpointed together with --set")}
	}
	return nil
}

func (a *app) printSet(r *checkpoint.GroupResult) error {
	if a.output == "json" {
		return a.printJSON(r)
	}
	_, err := fmt.Fprintf(a.out, "%s@%s\n", r.Target, r.Descriptor.Digest)
	return err
}

func (a *app) showCheckpointCommand() *cobra.Command {
	var insecure bool
	var versions int
	cmd := &cobra.Command{
		Use:   "show SET",
		Short: "Show a set of checkpoints, and the sets that its name named before",
		Long: `Show the set of checkpoints that SET names and, one after the other, those that it named
before: when they were taken, and of which containers. Each set and each checkpoint of one can
be restored by its digest. Sets that the registry has no more are left out.`,
		Example: `  lithify checkpoint show registry.example.com/shop:checkpoint`,
		Args:    exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			sets, err := earlierSets(cmd.Context(), args[0], insecure, versions)
			if err != nil {
				return convertrun.WithKind(err)
			}
			return a.printSets(sets)
		},
	}
	cmd.Flags().BoolVar(&insecure, "insecure", false, "speak plain HTTP to the registry")
	cmd.Flags().IntVar(&versions, "versions", 10, "at most so many sets")
	return cmd
}

// earlierSets are a set and those before it that are still there, the latest first.
func earlierSets(ctx context.Context, ref string, insecure bool, limit int) (sets []*set.Set, err error) {
	if limit < 1 {
		return nil, usageError{fmt.Errorf("--versions %d is not above zero", limit)}
	}
	next := []string{ref}
	for len(next) > 0 && len(sets) < limit {
		at := next[0]
		next = next[1:]
		src, err := convertrun.Handler{}.Open(at, insecure)
		if err != nil {
			return nil, usageError{err}
		}
		s, err := set.Open(ctx, src)
		if errors.Is(err, convert.ErrNotFound) && len(sets) > 0 {
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(sets) > 0 && s.Generation >= sets[len(sets)-1].Generation {
			return nil, fmt.Errorf("%s is of generation %d, and not before one of generation %d: %w", at, s.Generation, sets[len(sets)-1].Generation, errdefs.ErrDataLoss)
		}
		sets, next = append(sets, s), nil
		for _, d := range s.Ancestors() {
			next = append(next, convertjob.Pinned(convertjob.Unpinned(ref), d))
		}
	}
	return sets, nil
}

func (a *app) printSets(sets []*set.Set) error {
	if a.output == "json" {
		return a.printJSON(sets)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "GENERATION\tTAKEN\tSET\tCONTAINER\tCHECKPOINT")
	for _, s := range sets {
		for _, c := range s.Containers {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", s.Generation, s.Created.Local().Format(time.DateTime), s.Descriptor.Digest, c.Name, c.Image.Digest)
		}
	}
	return w.Flush()
}
