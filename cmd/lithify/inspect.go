package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/lithify/lithify/convert/inspect"
	"github.com/lithify/lithify/convert/registry"
	"github.com/spf13/cobra"
)

func (a *app) inspectCommand() *cobra.Command {
	var insecure bool
	cmd := &cobra.Command{
		Use:   "inspect REF",
		Short: "Show what an image is made of: variants, layers, proofs",
		Long: `Show the manifests of an image, and of each EROFS or block CIM variant its layers: dialect, profile,
writer, what it was made from, roles, digests, dm-verity roots, chunks, the file system's superblock; and what is
attached to each manifest. REF is a registry reference, oci:DIR[:TAG], oci-archive:FILE[:TAG] or
docker-archive:FILE[:REF]. A few kB of each layer are fetched, and nothing is checked but
that: lithify verify compares files, and lithify lint the rules of the draft.`,
		Example: `  lithify inspect registry.example.com/debian:12-erofs
  lithify inspect -o json oci:layout:app`,
		Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			src, err := registry.Open(args[0], registry.Options{Insecure: insecure})
			if err != nil {
				return err
			}
			r, err := inspect.Image(cmd.Context(), src)
			if err != nil {
				return err
			}
			if a.output == "json" {
				return a.printJSON(r)
			}
			printReport(a.out, r)
			return nil
		},
	}
	cmd.Flags().BoolVar(&insecure, "insecure", false, "speak plain HTTP to the registry")
	return cmd
}

// indented writes lines of a report, each field on one.
type indented struct {
	io.Writer
	by string
}

// field writes a field that has a value.
func (w indented) field(name, value string) {
	if value != "" {
		fmt.Fprintf(w, "%s%-10s %s\n", w.by, name, printable(value))
	}
}

func printReport(out io.Writer, r *inspect.Report) {
	w := indented{out, ""}
	w.field("name", r.Name)
	w.field("digest", r.Descriptor.Digest.String())
	w.field("type", r.Descriptor.MediaType)
	for _, m := range r.Manifests {
		fmt.Fprintf(out, "\n%s %s\n", m.Kind, printable(cmp.Or(m.On, m.MediaType)))
		printManifest(indented{out, "  "}, m)
	}
}

func printManifest(w indented, m inspect.Manifest) {
	w.field("digest", m.Digest.String())
	w.field("source", m.Source.String())
	w.field("dialect", string(m.Dialect))
	w.field("profile", string(m.Profile))
	w.field("writer", m.Writer)
	if m.Inner {
		w.field("lies in", "an index within the index")
	}
	for _, r := range m.Referrer {
		what := cmp.Or(r.ArtifactType, "artifact")
		for _, k := range slices.Sorted(maps.Keys(r.Annotations)) {
			what += " " + k + "=" + r.Annotations[k]
		}
		w.field("attached", r.Digest.String()+" "+what)
	}
	for i, l := range m.Layers {
		fmt.Fprintf(w, "%slayer %-4d %s %d bytes\n", w.by, i+1, l.Digest, l.Size)
		if m.Kind != "tar" {
			printLayer(indented{w, w.by + "  "}, l)
		}
	}
}

func printLayer(w indented, l inspect.Layer) {
	w.field("type", l.MediaType)
	w.field("diffID", l.DiffID.String())
	w.field("role", l.Role)
	if s := l.FileSystem; s != nil {
		w.field("EROFS", fmt.Sprintf("%s, %d inodes, blocks of %d bytes, metadata at %d", s.UUID, s.Inodes, s.BlockSize, s.Metadata))
		w.field("features", strings.Join(s.Features, " "))
		for _, tag := range s.DeviceTags {
			w.field("files in", tag)
		}
	}
	if v := l.Verity; v != nil {
		w.field("dm-verity", fmt.Sprintf("%s, tree at %d, blocks of %d bytes", v.RootDigest, v.HashOffset, v.BlockSize))
	}
	if c := l.Chunks; c != nil {
		sums := "without checksums"
		if c.Sums {
			sums = "with checksums"
		}
		w.field("chunks", fmt.Sprintf("%d of %d to %d bytes, %s: %d bytes hold %d", c.Count, c.Least, c.Most, sums, c.Stored, c.Held))
	}
	if c := l.CIM; c != nil {
		printCIMLayer(w, c)
	}
	w.field("problem", l.Problem)
}

func printCIMLayer(w indented, c *inspect.CIM) {
	w.field("CIM", c.Name)
	w.field("root hash", c.RootHash)
	w.field("writer", c.Writer)
	w.field("made of", c.TarID.String())
	w.field("hives", c.Hives.String())
	if c.Merged != "" {
		w.field("merged", c.Merged.String()+", root hash "+c.MergedRootHash)
	}
	if c.Emulated {
		w.field("EMULATED", "bytes of lithify's tests and no block CIM: nothing mounts them")
	}
}
