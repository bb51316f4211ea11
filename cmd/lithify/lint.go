package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/lithify/lithify/convert/lint"
	"github.com/lithify/lithify/convert/registry"
	"github.com/spf13/cobra"
)

type lintFlags struct {
	rules, deep, strict, insecure bool
	platforms                     []string
	tempDir                       string
}

func (a *app) lintCommand() *cobra.Command {
	var f lintFlags
	cmd := &cobra.Command{
		Use:   "lint REF",
		Short: "Compare an image with the rules of the erofs-image-spec draft",
		Long: `Compare the EROFS variants of an image, of any maker, with every MUST and SHOULD of the draft
erofs-image-spec that is about images. A line is level, section of the draft, rule, layer, and what is wrong.
REF is what lithify inspect takes. --rules lists the rules.

Fetched are superblocks, metadata and chunk indexes, by range requests; layers of zstd frames without a chunk index
are fetched whole. With --deep all of each blob is read, its DiffID, the checksums of its chunks and its dm-verity
tree are computed, and each file is read.

The dialect that containerd up to 2.4 reads has other media types and no roles. That is a NOTE for each variant,
and the other rules hold all the same. Exit code 3 says that a MUST is violated, and with --strict a SHOULD.`,
		Example: `  lithify lint registry.example.com/debian:12-erofs
  lithify lint --deep -o json oci:layout:app
  lithify lint --rules`,
		Args: func(cmd *cobra.Command, args []string) error {
			if f.rules {
				return exactArgs(0)(cmd, args)
			}
			return exactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.rules {
				return a.printRules(lint.Rules())
			}
			return a.lint(cmd, args[0], f)
		},
	}
	fs := cmd.Flags()
	fs.BoolVar(&f.rules, "rules", false, "list the rules, and no image")
	fs.BoolVar(&f.deep, "deep", false, "read all of each blob")
	fs.BoolVar(&f.strict, "strict", false, "exit code 3 for a violated SHOULD, too")
	fs.StringSliceVar(&f.platforms, "platform", nil, "platform of the variants to look at, os/arch[/variant]; may be repeated (default all)")
	fs.StringVar(&f.tempDir, "temp-dir", "", "where layers lie that are fetched whole (default $TMPDIR)")
	fs.BoolVar(&f.insecure, "insecure", false, "speak plain HTTP to the registry")
	return cmd
}

func (a *app) lint(cmd *cobra.Command, ref string, f lintFlags) error {
	opts := lint.Options{Deep: f.deep, TempDir: f.tempDir}
	var err error
	if opts.Platforms, err = platformFlags(f.platforms); err != nil {
		return err
	}
	src, err := registry.Open(ref, registry.Options{Insecure: f.insecure})
	if err != nil {
		return err
	}
	r, err := lint.Image(cmd.Context(), src, opts)
	if err != nil {
		return err
	}
	if a.output == "json" {
		err = a.printJSON(r)
	} else {
		err = a.printLint(r)
	}
	return errors.Join(err, r.Err(f.strict))
}

func (a *app) printLint(r *lint.Report) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, f := range r.Findings {
		where := f.Platform
		if f.Layer > 0 {
			where += fmt.Sprintf(" layer %d", f.Layer)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", f.Level, f.Section, f.Rule, where, printable(f.Detail))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.out, "%d variants, %d layers: %d MUST, %d SHOULD\n", r.Variants, r.Layers, r.Count(lint.Must), r.Count(lint.Should))
	return err
}

func (a *app) printRules(list []lint.Rule) error {
	if a.output == "json" {
		return a.printJSON(list)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, r := range list {
		text := r.Text
		if r.Unseen != "" {
			text += " (not checked: " + r.Unseen + ")"
		}
		fmt.Fprintln(w, strings.Join([]string{string(r.Level), r.Section, r.ID, text}, "\t"))
	}
	return w.Flush()
}
