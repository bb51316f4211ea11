package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

const extractTarLong = `Write the original tar of a layer of profile erofs-tar to FILE.

REF is a registry reference, oci:DIR[:TAG] or oci-archive:FILE[:TAG], as lithify convert
--profile erofs-tar published it. The tar is compared with the DiffID of the original
layer, and all of the blob with its digest; FILE is there only if both are right.

stdout gets one line, the tar's digest and size.`

const extractTarExample = `  lithify extract-tar registry.example.com/debian:12-erofs layer.tar

  # the third layer from the bottom, of one platform
  lithify extract-tar --platform linux/arm64 --layer 3 registry.example.com/app:1-erofs layer.tar`

type extractTarFlags struct {
	layer, platform string
	insecure        bool
}

func (a *app) extractTarCommand() *cobra.Command {
	var f extractTarFlags
	cmd := &cobra.Command{
		Use:     "extract-tar REF FILE",
		Short:   "Get an original layer back out of an erofs-tar variant",
		Long:    extractTarLong,
		Example: extractTarExample,
		Args:    exactArgs(2),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.extractTar(cmd.Context(), args[0], args[1], f) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.layer, "layer", "", "which layer: its number, 1 for the bottom one, its digest or its DiffID (default the only one)")
	fs.StringVar(&f.platform, "platform", "", "platform of the variant, os/arch[/variant] (default the only one)")
	fs.BoolVar(&f.insecure, "insecure", false, "speak plain HTTP to the registry")
	return cmd
}

func (a *app) extractTar(ctx context.Context, ref, file string, f extractTarFlags) error {
	want, err := platformFlag(f.platform)
	if err != nil {
		return err
	}
	src, err := registry.Open(ref, registry.Options{Insecure: f.insecure})
	if err != nil {
		return err
	}
	layers, err := convert.TarLayers(ctx, src, want)
	if err != nil {
		return err
	}
	l, err := chooseLayer(layers, f.layer)
	if err != nil {
		return err
	}
	if err := replaceFile(file, func(w io.Writer) error { return l.Extract(ctx, src, w) }); err != nil {
		return err
	}
	if a.output == "json" {
		return a.printJSON(l)
	}
	_, err = fmt.Fprintf(a.out, "%s %d bytes\n", l.DiffID, l.Size)
	return err
}

// chooseLayer finds the layer that --layer names.
func chooseLayer(layers []convert.TarLayer, name string) (convert.TarLayer, error) {
	n, err := strconv.Atoi(cmp.Or(name, "1"))
	switch {
	case name == "" && len(layers) > 1:
		return convert.TarLayer{}, usageError{fmt.Errorf("the image has %d layers: name one with --layer", len(layers))}
	case err == nil && n >= 1 && n <= len(layers):
		return layers[n-1], nil
	case err == nil:
		return convert.TarLayer{}, usageError{fmt.Errorf("--layer %d: the image has layers 1 to %d", n, len(layers))}
	}
	for _, l := range layers {
		if d := digest.Digest(name); d == l.Blob.Digest || d == l.DiffID {
			return l, nil
		}
	}
	return convert.TarLayer{}, fmt.Errorf("--layer %s: %w: none of the image's %d layers", name, os.ErrNotExist, len(layers))
}
