package main

import (
	"fmt"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	convertjob "github.com/lithify/lithify/jobs/convert"
	"github.com/spf13/cobra"
)

const cacheExportLong = `Convert the layers of an image into a directory in which containerd's EROFS snapshotter looks for
layers before it fetches them (layer_content_caches, containerd 2.4).

SRC is a registry reference, oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:REF], of
tar layers. DIR gets sha256/XX/DIFFID.erofs, and with --verity a .dmverity beside each. A node that
has DIR pulls the image itself, not a variant, and fetches none of these layers.

What DIR has is not made again, nor replaced or removed, ever: a node may have it mounted. A file
appears whole or not at all. A layer that would be another one over other layers is left out, and
said to be: containerd then fetches and converts it.

It takes Linux. stdout gets a line for each layer.`

type cacheFlags struct {
	platforms []string
	all       bool
	opts      convert.Options
	verify    string
	insecure  bool
}

func (a *app) cacheCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "cache", Short: "Directories of layers that nodes find without a registry"}
	group(cmd)
	cmd.AddCommand(a.cacheExportCommand())
	return cmd
}

func (a *app) cacheExportCommand() *cobra.Command {
	var f cacheFlags
	cmd := &cobra.Command{
		Use:   "export SRC DIR",
		Short: "Convert the layers of an image into a layer cache of containerd",
		Long:  cacheExportLong,
		Example: `  lithify cache export --all-platforms registry.example.com/debian:12 /srv/erofs-cache

  # for nodes with dmverity_mode = "on"
  lithify cache export --verity registry.example.com/debian:12 /srv/erofs-cache`,
		Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return a.exportCache(cmd, f, args[0], args[1]) },
	}
	fs := cmd.Flags()
	fs.StringSliceVar(&f.platforms, "platform", nil, "platform whose layers to convert, os/arch[/variant]; may be repeated (default this machine's)")
	fs.BoolVar(&f.all, "all-platforms", false, "convert those of every Linux platform")
	fs.BoolVar(&f.opts.Verity, "verity", false, "put a dm-verity tree behind each layer, and what containerd has to know of it beside it: nodes mount it with dm-verity, which their kernels must have")
	fs.BoolVar(&f.opts.InlineTails, "inline-tails", false, "put the last bytes of files into the metadata: smaller layers")
	fs.StringVar(&f.verify, "verify", string(convert.VerifyFull), "full (compare each layer with its tar before it is there) or none")
	fs.StringVar(&f.opts.TempDir, "temp-dir", "", "where layers lie that are left out, while those above them are looked at (default $TMPDIR)")
	fs.IntVar(&f.opts.Parallel, "parallel", 0, "layers in flight (default the number of CPUs)")
	fs.BoolVar(&f.insecure, "insecure", false, "speak plain HTTP to the registry")
	return cmd
}

func (f cacheFlags) options(a *app) (convert.Options, error) {
	opts := f.opts
	if f.all && len(f.platforms) > 0 {
		return opts, usageError{fmt.Errorf("--platform and --all-platforms exclude each other")}
	}
	if opts.Parallel < 0 {
		return opts, usageError{fmt.Errorf("--parallel %d is below zero", opts.Parallel)}
	}
	if err := convertjob.OneOf("verify", f.verify, "full", "none"); err != nil {
		return opts, usageError{err}
	}
	opts.AllPlatforms, opts.Verify, opts.Log = f.all, convert.Verify(f.verify), a.log
	var err error
	opts.Platforms, err = platformFlags(f.platforms)
	return opts, err
}

func (a *app) exportCache(cmd *cobra.Command, f cacheFlags, ref, dir string) error {
	opts, err := f.options(a)
	if err != nil {
		return err
	}
	src, err := registry.Open(ref, registry.Options{Insecure: f.insecure})
	if err != nil {
		return err
	}
	show := newProgress(a.err)
	opts.Progress = show.event
	r, err := convert.ExportCache(cmd.Context(), src, dir, opts)
	show.close(err)
	if err != nil {
		return err
	}
	if a.output == "json" {
		return a.printJSON(r)
	}
	for _, l := range r.Layers {
		what := fmt.Sprintf("%d bytes in %s", l.Size, l.File)
		if l.Why != "" {
			what = l.Why
		}
		if _, err := fmt.Fprintf(a.out, "%s %s: %s\n", l.DiffID, l.State, printable(what)); err != nil {
			return err
		}
	}
	return nil
}
