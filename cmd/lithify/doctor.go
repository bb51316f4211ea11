package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/lithify/lithify/convert/daemonconf"
	"github.com/lithify/lithify/convert/preflight"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/restore"
	"github.com/spf13/cobra"
)

func (a *app) doctorCommand() *cobra.Command {
	var o preflight.Options
	var verb string
	var migrate, list bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine can do, and what to do about the rest",
		Long: `Say what this machine can do, and what to do about the rest. Each thing is tried: a small
EROFS image is mounted, a file is sealed, on Windows the library that writes block CIMs is
loaded, and containerd is asked: for its plugins, what it calls deprecated, and its runtimes,
whose shims it starts as for a container. That says what keeps which verb from working; CRI
keeps none. Its configuration is read, too, with what that imports: what of it containerd passes over, what will be gone in a
later version, and what it migrates each time it starts.

The exit code is 0 if all is there that --for requires. lithify convert needs nearly nothing.`,
		Example: `  lithify doctor
  lithify doctor --for verify -o json
  lithify doctor --migrate --containerd-config /etc/containerd/config.toml | patch -p1 -d /`,
		Args: exactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if verbs := preflight.Verbs(); !slices.Contains(verbs, verb) {
				return usageError{fmt.Errorf("--for %q: want one of %s", verb, strings.Join(verbs, ", "))}
			}
			conf, err := readConfig(cmd.Context(), &o, migrate)
			if err != nil {
				return err
			}
			if migrate {
				diff, err := conf.Migrate()
				if err == nil && diff == "" {
					fmt.Fprintln(a.err, "nothing to migrate")
				}
				fmt.Fprint(a.out, diff)
				return err
			}
			facts := preflight.Check(cmd.Context(), o)
			var plugins []preflight.Plugin
			if list || a.output == "json" {
				plugins, err = preflight.Plugins(cmd.Context(), o.Containerd)
				if err != nil && list {
					return err
				}
			}
			if err := a.printFacts(facts, plugins, conf, verb); err != nil {
				return err
			}
			return preflight.Ready(facts, verb)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&verb, "for", "convert", "what has to work: "+strings.Join(preflight.Verbs(), ", "))
	fs.StringVar(&o.Dir, "dir", "", "where is tried what depends on the file system (default $TMPDIR)")
	fs.StringVar(&o.Containerd, "containerd", stack.DefaultAddress, "where containerd listens")
	fs.StringVar(&o.Config, "containerd-config", "", "containerd's configuration (default what the one at --containerd was started with)")
	fs.StringVar(&o.CNIConf, "cni-conf-dir", restore.DefaultConfDir, "where CNI networks are configured")
	fs.StringSliceVar(&o.CNIBins, "cni-bin-dir", []string{restore.DefaultBinDir}, "where the CNI plugins are; may be repeated")
	fs.BoolVar(&list, "plugins", false, "list all plugins of containerd, too, and what lithify has of them; -o json always does")
	fs.BoolVar(&migrate, "migrate", false, "print nothing but how to have bin_dirs in the place of CNI's bin_dir, for containerd 2.1 and later, as a diff; nothing is written")
	return cmd
}

// readConfig reads containerd's configuration. If it is not named and not needed, one that
// cannot be found or read is not there: the facts say why.
func readConfig(ctx context.Context, o *preflight.Options, needed bool) (*daemonconf.Config, error) {
	named := o.Config != ""
	if !named {
		path, err := preflight.ConfigOf(ctx, o.Containerd)
		if err != nil && needed {
			return nil, usageError{fmt.Errorf("name containerd's configuration, by --containerd-config: %w", err)}
		}
		o.Config = path
	}
	if o.Config == "" {
		return nil, nil
	}
	conf, err := daemonconf.Read(o.Config)
	if err != nil && !named && !needed {
		return nil, nil
	}
	return conf, err
}

func (a *app) printFacts(facts []preflight.Fact, plugins []preflight.Plugin, conf *daemonconf.Config, verb string) error {
	if a.output == "json" {
		type config struct {
			Files    []*daemonconf.File   `json:"files"`
			Findings []daemonconf.Finding `json:"findings"`
		}
		var c *config
		if conf != nil {
			c = &config{conf.Files, conf.Findings()}
		}
		return a.printJSON(struct {
			For    string           `json:"for"`
			Ready  bool             `json:"ready"`
			Facts  []preflight.Fact `json:"facts"`
			Config *config          `json:"containerd_config,omitempty"`

			Plugins []preflight.Plugin `json:"containerd_plugins,omitempty"`
		}{verb, preflight.Ready(facts, verb) == nil, facts, c, plugins})
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, f := range facts {
		state := "ok"
		if !f.OK {
			state = "missing"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Name, state, f.Found)
		fmt.Fprintf(w, "\t\t%s\n", purpose(f.For, f.Required))
		if f.Do != "" {
			fmt.Fprintf(w, "\t\tto do: %s\n", f.Do)
		}
	}
	for i, p := range plugins {
		if i == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", p.Name(), p.State, p.Reason)
		if p.For != "" {
			fmt.Fprintf(w, "\t\t%s\n", purpose(p.For, p.Required))
		}
	}
	if err := w.Flush(); err != nil || conf == nil {
		return err
	}
	return a.explain(conf)
}

// purpose is what something is for, and the verbs that need it.
func purpose(use string, required []string) string {
	if len(required) > 0 {
		use += "; required by " + strings.Join(required, ", ")
	}
	return use
}

// explain prints what containerd makes of its configuration. Where it only migrates, people
// hear how much.
func (a *app) explain(conf *daemonconf.Config) error {
	moved := map[string]int{}
	for _, f := range conf.Findings() {
		if f.State == daemonconf.Moved {
			moved[f.File]++
		}
	}
	for _, f := range conf.Files {
		fmt.Fprintf(a.out, "\n%s: %s\n", f.Path, f.Means())
		if n := moved[f.Path]; n > 0 {
			fmt.Fprintf(a.out, "  keys that are migrated each time: %d; -o json lists them\n", n)
		}
		for _, found := range conf.Findings() {
			if found.File == f.Path && found.State != daemonconf.Moved {
				fmt.Fprintf(a.out, "  line %d: %s is %s: %s\n", found.Line, found.Key, found.State, found.Says)
			}
		}
	}
	return nil
}
