package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/lithify/lithify/convert/preflight"
	"github.com/lithify/lithify/convert/stack"
	"github.com/spf13/cobra"
)

func (a *app) doctorCommand() *cobra.Command {
	var o preflight.Options
	var verb string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine can do, and what to do about the rest",
		Long: `Say what this machine can do, and what to do about the rest. Each thing is tried: a small
EROFS image is mounted, a file is sealed, containerd is asked.

The exit code is 0 if all is there that --for requires. lithify convert needs nearly nothing.`,
		Example: `  lithify doctor
  lithify doctor --for verify -o json`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if verbs := preflight.Verbs(); !slices.Contains(verbs, verb) {
				return usageError{fmt.Errorf("--for %q: want one of %s", verb, strings.Join(verbs, ", "))}
			}
			facts := preflight.Check(cmd.Context(), o)
			if err := a.printFacts(facts, verb); err != nil {
				return err
			}
			return preflight.Ready(facts, verb)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&verb, "for", "convert", "what has to work: "+strings.Join(preflight.Verbs(), ", "))
	fs.StringVar(&o.Dir, "dir", "", "where is tried what depends on the file system (default $TMPDIR)")
	fs.StringVar(&o.Containerd, "containerd", stack.DefaultAddress, "where containerd listens")
	return cmd
}

func (a *app) printFacts(facts []preflight.Fact, verb string) error {
	if a.output == "json" {
		return a.printJSON(struct {
			For   string           `json:"for"`
			Ready bool             `json:"ready"`
			Facts []preflight.Fact `json:"facts"`
		}{verb, preflight.Ready(facts, verb) == nil, facts})
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, f := range facts {
		state := "ok"
		if !f.OK {
			state = "missing"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Name, state, f.Found)
		use := f.For
		if len(f.Required) > 0 {
			use += "; required by " + strings.Join(f.Required, ", ")
		}
		fmt.Fprintf(w, "\t\t%s\n", use)
		if f.Do != "" {
			fmt.Fprintf(w, "\t\tto do: %s\n", f.Do)
		}
	}
	return w.Flush()
}
