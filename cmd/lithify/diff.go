package main

import (
	"fmt"
	"io/fs"

	"github.com/lithify/lithify/convert/inspect"
	"github.com/lithify/lithify/convert/overlay"
	"github.com/lithify/lithify/convert/tree"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

func (a *app) diffCommand() *cobra.Command {
	var f filesFlags
	cmd := &cobra.Command{
		Use:   "diff REF1 REF2",
		Short: "Compare the files of two EROFS variants without pulling them",
		Long: `Compare the files of two EROFS variants as a container sees them: names, types, modes, owners, times,
extended attributes, targets, sizes and contents. Contents are read only of files of equal size that are from
different layers. What a variant has to do with its own original lithify verify says. A line is
path, attribute, what REF2 has, and what REF1 has.`,
		Example: `  lithify diff registry.example.com/debian:12-erofs registry.example.com/debian:13-erofs`,
		Args:    exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			var sides [2]*inspect.Files
			for i := range sides {
				if sides[i], err = f.open(cmd, args[i]); err != nil {
					return err
				}
				defer closing(sides[i], &err)
			}
			list, err := diffFiles(cmd, sides[1], sides[0])
			if err != nil {
				return err
			}
			return a.printDiff(list)
		},
	}
	f.add(cmd)
	return cmd
}

// diffFiles says how got differs from want.
func diffFiles(cmd *cobra.Command, got, want *inspect.Files) ([]tree.Difference, error) {
	g, err := treeOf(got)
	if err != nil {
		return nil, err
	}
	w, err := treeOf(want)
	if err != nil {
		return nil, err
	}
	for name, one := range g {
		two, ok := w[name]
		if !ok || one.Type != 0 || two.Type != 0 || one.Size != two.Size || one.layer == two.layer {
			continue
		}
		for _, side := range []struct {
			files *inspect.Files
			t     map[string]diffedFile
		}{{got, g}, {want, w}} {
			e := side.t[name]
			if e.Sum, err = sumFile(cmd, side.files, e.at); err != nil {
				return nil, err
			}
			side.t[name] = e
		}
	}
	return tree.Diff(plainTree(g), plainTree(w)), nil
}

// diffedFile is a file of one side.
type diffedFile struct {
	tree.Entry
	at    overlay.File
	layer digest.Digest
}

func treeOf(files *inspect.Files) (map[string]diffedFile, error) {
	t := map[string]diffedFile{}
	err := files.Walk(".", func(at overlay.File) error {
		l, err := listed(files, at)
		if err != nil {
			return fmt.Errorf("%s: %w", at.Path, err)
		}
		attr, err := at.Attr()
		if err != nil {
			return err
		}
		e := tree.Entry{
			Type: at.Info.Mode().Type(), Mode: attr.Mode, UID: l.UID, GID: l.GID, Mtime: l.Time, Xattrs: l.Xattrs, Target: l.Target, Size: l.Size,
		}
		if e.Type&fs.ModeDevice != 0 {
			e.Target = l.Device
		}
		t[at.Path] = diffedFile{e, at, l.Layer}
		return nil
	})
	return t, err
}

func sumFile(cmd *cobra.Command, files *inspect.Files, at overlay.File) (string, error) {
	r, err := files.FS.Open(at)
	if err != nil {
		return "", err
	}
	defer r.Close()
	return tree.Sum(until(cmd.Context(), r))
}

func plainTree(t map[string]diffedFile) tree.Tree {
	out := tree.Tree{}
	for name, e := range t {
		out[name] = e.Entry
	}
	return out
}

func (a *app) printDiff(list []tree.Difference) error {
	if a.output == "json" {
		if list == nil {
			list = []tree.Difference{}
		}
		return a.printJSON(list)
	}
	for _, d := range list {
		if _, err := fmt.Fprintf(a.out, "%s: %s: %s, was %s\n", printable(d.Path), d.Attr, d.Got, d.Want); err != nil {
			return err
		}
	}
	return nil
}
