package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/log"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/provenance"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/convert/verify"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	"github.com/spf13/cobra"
)

const verifyLong = `Prove that a node sees the same files in a variant as in its original, or who has
built the original, and of what.

REF is a registry reference, oci:DIR[:TAG] or oci-archive:FILE[:TAG], as lithify convert published
it. All of original and variant is read, and compared: each layer with its tar, in every attribute
and byte, and what a container sees in the layers on each other with what the tars make if one is
applied after the other. The tars are read by Go's archive/tar and the layers by go-erofs. It needs
no root, and room for the variant's layers in --temp-dir.

With --unpack containerd's own code, in this process, unpacks the original for overlayfs
and the variant for EROFS, mounts both, and each file is compared: names, types, modes,
owners, extended attributes, hard links, sizes, times and contents. Nothing of it stays.
It needs Linux and root; lithify doctor --for verify says what is missing. On Windows it is the variants
of block CIMs that are verified: containerd's own code makes them once more, with the same
library on the same build of Windows, and they are compared as a whole.

With --reproduce the original is converted once more, which makes the same bytes, and all of the
variant is read. It needs nothing of the machine, but the version of lithify that made the variant.

With --provenance each image of REF that is no variant must have provenance that one of these
keys has signed, as lithify build makes it.

stdout gets one line for each variant, and for each image; exit code 3 says that a variant
differs, or that an image has no provenance of these keys.`

const verifyExample = `  lithify verify registry.example.com/debian:12-erofs

  lithify verify --unpack registry.example.com/debian:12-erofs

  lithify verify --reproduce registry.example.com/debian:12-erofs

  lithify verify --provenance pool.pub.pem registry.example.com/app:1

  # the variants were published alone: the originals are elsewhere
  lithify verify --unpack --source debian:12 registry.example.com/debian:12-erofs`

func (a *app) verifyCommand() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:     "verify REF",
		Short:   "Prove that a variant holds what its original holds, or who built it",
		Long:    verifyLong,
		Example: verifyExample,
		Args:    exactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.verify(cmd, args[0], f) },
	}
	fs := cmd.Flags()
	fs.BoolVar(&f.unpack, "unpack", false, "unpack and mount original and variant, and compare each file")
	fs.BoolVar(&f.reproduce, "reproduce", false, "convert the original once more, and compare digests")
	fs.StringArrayVar(&f.provenance, "provenance", nil, "PEM file with an Ed25519 public key that may have signed the provenance; may be repeated")
	fs.StringVar(&f.source, "source", "", "image that has the originals (default REF)")
	fs.StringSliceVar(&f.platforms, "platform", nil, "platform of the variants to look at, os/arch[/variant]; may be repeated (default all)")
	fs.StringVar(&f.tempDir, "temp-dir", "", "where the variant's layers lie while they are compared (default $TMPDIR)")
	fs.StringVar(&f.root, "root", "", "with --unpack, directory to unpack into, which one process at a time may do (default one in $TMPDIR)")
	fs.BoolVar(&f.insecure, "insecure", false, "speak plain HTTP to the registries")
	return cmd
}

type verifyFlags struct {
	unpack, reproduce, insecure bool
	source, root, tempDir       string
	platforms                   []string
	provenance                  []string // files of keys
}

func (a *app) verify(cmd *cobra.Command, ref string, f verifyFlags) error {
	opts := verify.Options{Root: f.root, Log: a.log}
	var err error
	if opts.Platforms, err = platformFlags(f.platforms); err != nil {
		return err
	}
	src, err := registry.Open(ref, registry.Options{Insecure: f.insecure})
	if err != nil {
		return err
	}
	if err := a.verifyProvenance(cmd.Context(), src, f.provenance); err != nil {
		return err
	}
	var originals convert.Source // nil: src
	if f.source != "" {
		if originals, err = registry.Open(f.source, registry.Options{Insecure: f.insecure}); err != nil {
			return err
		}
	}
	if !f.unpack && !f.reproduce && len(f.provenance) == 0 {
		return a.printVerified(verify.Registry(cmd.Context(), src, originals, f.tempDir, opts))
	}
	if f.reproduce {
		if err := a.printVerified(reproduce(cmd.Context(), src, originals, opts)); err != nil {
			return err
		}
	}
	if !f.unpack {
		return nil
	}
	if !a.verbose {
		log.SetLevel("fatal") // what is wrong containerd's libraries return, too
	}
	return a.printVerified(verify.Image(cmd.Context(), src, originals, opts))
}

// reproduce converts into a directory that is then thrown away.
func reproduce(ctx context.Context, src, originals convert.Source, opts verify.Options) (_ *verify.Result, err error) {
	dir, err := os.MkdirTemp("", "lithify-reproduce-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	scratch, err := registry.Create("oci:"+dir, registry.Options{})
	if err != nil {
		return nil, err
	}
	return verify.Reproduce(ctx, src, originals, scratch, opts)
}

// verifyProvenance wants that one of the keys has signed the provenance of each image.
func (a *app) verifyProvenance(ctx context.Context, src convert.Source, files []string) error {
	if len(files) == 0 {
		return nil
	}
	var keys []ed25519.PublicKey
	for _, file := range files {
		key, err := convertrun.LoadPublicKey(file)
		if err != nil {
			return usageError{err}
		}
		keys = append(keys, key)
	}
	found, err := provenance.Verify(ctx, src, keys)
	if err != nil {
		return err
	}
	if a.output == "json" {
		return a.printJSON(map[string]any{"provenance": found})
	}
	for _, s := range found {
		if _, err := fmt.Fprintf(a.out, "%s %s: built by %s\n", s.Platform, s.Image, s.Builder); err != nil {
			return err
		}
	}
	return nil
}

// shownDifferences is how many of them people get to see.
const shownDifferences = 20

// printVerified prints what was found, and says so if that is a difference.
func (a *app) printVerified(r *verify.Result, err error) error {
	if err != nil {
		return err
	}
	if a.output == "json" {
		return errors.Join(a.printJSON(r), r.Err())
	}
	for _, v := range r.Variants {
		says := "same"
		if n := len(v.Differences); n > 0 {
			says = fmt.Sprintf("%d differences", n)
		}
		what := fmt.Sprintf("%d files", v.Files)
		switch {
		case v.Layers > 0 && v.Files > 0:
			what = fmt.Sprintf("%d layers, %d files", v.Layers, v.Files)
		case v.Layers > 0:
			what = fmt.Sprintf("%d layers made again", v.Layers)
		}
		if _, err := fmt.Fprintf(a.out, "%s %s: %s, %s\n", v.Platform, v.Digest, what, says); err != nil {
			return err
		}
		for i, d := range v.Differences {
			if i == shownDifferences {
				fmt.Fprintf(a.err, "  and %d more, see --output json\n", len(v.Differences)-i)
				break
			}
			fmt.Fprintf(a.err, "  %s\n", d)
		}
		for _, d := range v.Root {
			fmt.Fprintf(a.err, "  as containerd has it on its snapshotters: %s\n", d)
		}
	}
	return r.Err()
}
