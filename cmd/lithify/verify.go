package main

import (
	"errors"
	"fmt"

	"github.com/containerd/log"
	"github.com/containerd/platforms"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/convert/verify"
	"github.com/spf13/cobra"
)

const verifyLong = `Prove that a node sees the same files in an EROFS variant as in its original.

REF is a registry reference, oci:DIR[:TAG] or oci-archive:FILE[:TAG], as lithify convert published
it. With --unpack containerd's own code, in this process, unpacks the original for overlayfs
and the variant for EROFS, mounts both, and each file is compared: names, types, modes,
owners, extended attributes, hard links, sizes, times and contents. Nothing of it stays.
It needs Linux and root; lithify doctor --for verify says what is missing.

stdout gets one line for each variant; exit code 3 says that one differs.`

const verifyExample = `  lithify verify --unpack registry.example.com/debian:12-erofs

  # the variants were published alone: the originals are elsewhere
  lithify verify --unpack --source debian:12 registry.example.com/debian:12-erofs`

func (a *app) verifyCommand() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:     "verify REF",
		Short:   "Prove that an EROFS variant holds what its original holds",
		Long:    verifyLong,
		Example: verifyExample,
		Args:    exactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.verify(cmd, args[0], f) },
	}
	fs := cmd.Flags()
	fs.BoolVar(&f.unpack, "unpack", false, "unpack and mount original and variant, and compare each file")
	fs.StringVar(&f.source, "source", "", "image that has the originals (default REF)")
	fs.StringSliceVar(&f.platforms, "platform", nil, "platform of the variants to look at, os/arch[/variant]; may be repeated (default all)")
	fs.StringVar(&f.root, "root", "", "directory to unpack into, which one process at a time may do (default one in $TMPDIR)")
	fs.BoolVar(&f.insecure, "insecure", false, "speak plain HTTP to the registries")
	return cmd
}

type verifyFlags struct {
	unpack, insecure bool
	source, root     string
	platforms        []string
}

func (a *app) verify(cmd *cobra.Command, ref string, f verifyFlags) error {
	opts := verify.Options{Root: f.root, Log: a.log}
	for _, p := range f.platforms {
		want, err := platforms.Parse(p)
		if err != nil {
			return usageError{err}
		}
		opts.Platforms = append(opts.Platforms, want)
	}
	if !f.unpack {
		return usageError{errors.New("--unpack is missing: it is the one way to verify that there is")}
	}
	src, err := registry.Open(ref, registry.Options{Insecure: f.insecure})
	if err != nil {
		return err
	}
	var originals convert.Source // nil: src
	if f.source != "" {
		if originals, err = registry.Open(f.source, registry.Options{Insecure: f.insecure}); err != nil {
			return err
		}
	}
	if !a.verbose {
		log.SetLevel("fatal") // what is wrong containerd's libraries return, too
	}
	result, err := verify.Image(cmd.Context(), src, originals, opts)
	if err != nil {
		return err
	}
	if err := a.printVerified(result); err != nil {
		return err
	}
	return result.Err()
}

// shownDifferences is how many of them people get to see.
const shownDifferences = 20

func (a *app) printVerified(r *verify.Result) error {
	if a.output == "json" {
		return a.printJSON(r)
	}
	for _, v := range r.Variants {
		says := "same"
		if n := len(v.Differences); n > 0 {
			says = fmt.Sprintf("%d differences", n)
		}
		if _, err := fmt.Fprintf(a.out, "%s %s: %d files, %s\n", v.Platform, v.Digest, v.Files, says); err != nil {
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
	return nil
}
