// Package erofstest reads the file tree of an EROFS image or a tar, for package tree
// to compare, and finds the tools that check images. It is
// for tests, also those of other packages.
package erofstest

import (
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	goerofs "github.com/erofs/go-erofs"
	"github.com/lithify/lithify/convert/tree"
	"github.com/lithify/lithify/erofs"
)

// FromImage reads the tree of a raw EROFS image with go-erofs.
func FromImage(r io.ReaderAt) (tree.Tree, error) {
	fsys, err := erofs.Open(r)
	if err != nil {
		return nil, err
	}
	return FromFS(fsys, true)
}

// FromFS reads a tree of package erofs, with or without the files' contents.
func FromFS(fsys fs.ReadLinkFS, contents bool) (tree.Tree, error) {
	t := tree.Tree{}
	names := map[int64][]string{}
	err := walk(fsys, ".", func(name string, info fs.FileInfo) error {
		e, err := entryOf(fsys, name, info, contents)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		t[name] = e
		ino := int64(info.Sys().(*goerofs.Stat).Ino)
		names[ino] = append(names[ino], name)
		return nil
	})
	for _, paths := range names {
		t.Link(paths)
	}
	return t, err
}

// walk visits every file; unlike fs.WalkDir it takes any byte in a name.
func walk(fsys fs.ReadLinkFS, name string, visit func(string, fs.FileInfo) error) error {
	info, err := fsys.Lstat(name)
	if err != nil {
		return err
	}
	if err := visit(name, info); err != nil || !info.IsDir() {
		return err
	}
	d, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	list, err := d.(fs.ReadDirFile).ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range list {
		child := e.Name()
		if name != "." {
			child = name + "/" + child
		}
		if err := walk(fsys, child, visit); err != nil {
			return err
		}
	}
	return nil
}

func entryOf(fsys fs.ReadLinkFS, name string, info fs.FileInfo, contents bool) (e tree.Entry, err error) {
	attr, err := erofs.AttrOf(info)
	if err != nil {
		return e, err
	}
	st := info.Sys().(*goerofs.Stat)
	e = tree.Entry{
		Type: info.Mode().Type(), Mode: attr.Mode, UID: attr.UID, GID: attr.GID,
		Nlink: uint64(st.Nlink), Mtime: info.ModTime().UTC(), Xattrs: attr.Xattrs,
	}
	switch {
	case e.Type == fs.ModeSymlink:
		e.Size = info.Size()
		e.Target, err = fsys.ReadLink(name)
	case e.Type&fs.ModeDevice != 0:
		e.Rdev = st.Rdev
	case e.Type == 0:
		e.Size = info.Size()
		if contents {
			e.Sum, err = sumFile(fsys, name)
		}
	}
	return e, err
}

func sumFile(fsys fs.FS, name string) (string, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return tree.Sum(f)
}

// Diff describes how got differs from want; "" if it does not.
func Diff(got, want tree.Tree) string {
	const show = 40
	var out strings.Builder
	for i, d := range tree.Diff(got, want) {
		if i == show {
			out.WriteString("and more\n")
			break
		}
		fmt.Fprintln(&out, d)
	}
	return out.String()
}

// CheckTrees fails the test where got differs from want.
func CheckTrees(t testing.TB, got, want tree.Tree) {
	t.Helper()
	if d := Diff(got, want); d != "" {
		t.Errorf("trees differ:\n%s", d)
	}
}

// CompareTrees fails the test where the directory got differs from want: mode,
// owner, size, links, device numbers, time to the nanosecond, xattrs, targets
// and contents. Reading every xattr needs root.
func CompareTrees(t testing.TB, got, want string) {
	t.Helper()
	var trees [2]tree.Tree
	for i, dir := range []string{got, want} {
		var err error
		if trees[i], err = tree.Read(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
	}
	CheckTrees(t, trees[0], trees[1])
}
