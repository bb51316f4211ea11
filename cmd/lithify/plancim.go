package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
)

const planCIMLong = `Show what block CIMs of an image for Windows would be made of, and what stands in the way.

REF is a registry reference, oci:DIR[:TAG] or oci-archive:FILE[:TAG]. All layers are read, here
and on any system, and nothing is written: to write block CIMs takes Windows. stdout gets a line
for each layer and --calls one for each call of the CIM API, in the order in which hcsshim makes
them.

What hcsshim cannot write is on stderr, and exit code 3 says that there is such: alternate
data streams, names that differ by their case alone, a file whose directory is in a layer below.
So is what it writes differently each time.`

func (a *app) planCIMCommand() *cobra.Command {
	var calls, insecure bool
	cmd := &cobra.Command{
		Use:   "plan-cim REF",
		Short: "Show what block CIMs of a Windows image would be made of",
		Long:  planCIMLong,
		Example: `  lithify plan-cim mcr.microsoft.com/windows/nanoserver:ltsc2022

  lithify plan-cim --calls oci:app | grep tombstone`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			src, err := registry.Open(args[0], registry.Options{Insecure: insecure})
			if err != nil {
				return err
			}
			emit := func(digest.Digest, cimfs.Call) error { return nil }
			if calls {
				emit = a.printCall
			}
			images, err := convert.PlanCIM(cmd.Context(), src, emit)
			if err != nil {
				return err
			}
			return a.printPlanned(images, calls)
		},
	}
	cmd.Flags().BoolVar(&calls, "calls", false, "print each call, in place of the layers")
	cmd.Flags().BoolVar(&insecure, "insecure", false, "speak plain HTTP to the registry")
	return cmd
}

// printCall prints one for people, or as an object in a line.
func (a *app) printCall(blob digest.Digest, c cimfs.Call) error {
	if a.output == "json" {
		return json.NewEncoder(a.out).Encode(struct {
			Layer digest.Digest `json:"layer"`
			cimfs.Call
		}{blob, c})
	}
	_, err := fmt.Fprintln(a.out, printable(c.String()))
	return err
}

func (a *app) printPlanned(images []*convert.WindowsImage, calls bool) error {
	var refused error
	for _, w := range images {
		refused = errors.Join(refused, w.Err())
		for _, l := range w.Layers {
			for _, p := range l.Problems {
				fmt.Fprintf(a.err, "%s: %s\n", printable(p.Path), printable(p.Text))
			}
		}
	}
	switch {
	case calls:
		return refused
	case a.output == "json":
		return errors.Join(a.printJSON(images), refused)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PLATFORM\tLAYER\tFILES\tSIZE\tLINKS\tREMOVED\tHIVES\tCALLS\tREFUSED")
	for _, i := range images {
		for _, l := range i.Layers {
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%d\t%d\t%s\t%d\t%d\n", i.Platform, l.Blob.Encoded()[:12], l.Files, units.BytesSize(float64(l.Bytes)), l.Links, l.Removed, strings.Join(l.Deltas, ","), l.Calls, l.Refused)
		}
	}
	return errors.Join(w.Flush(), refused)
}
