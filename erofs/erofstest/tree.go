// Package erofstest compares file trees, from a directory, an EROFS image or a
// tar, in every attribute and byte, and finds the tools that check images. It is
// for tests, also those of other packages.
package erofstest

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"testing"
	"time"

	goerofs "github.com/erofs/go-erofs"
	"github.com/google/go-cmp/cmp"
	"github.com/lithify/lithify/erofs"
)

// Tree holds the files of a tree by path; the root is ".".
type Tree map[string]Entry

// Entry is all that a user sees of one file. Times are in UTC.
type Entry struct {
	Type   fs.FileMode // type bits
	Mode   uint16      // 07777
	UID    uint32
	GID    uint32
	Size   int64 // 0 for directories and special files
	Nlink  uint64
	Rdev   uint32
	Mtime  time.Time
	Xattrs map[string]string
	Target string
	Sum    string // of a regular file's content, in hex
	// Same is the first path, by bytes, of the same inode.
	Same string
}

// inode is one file, of a stack of file systems too.
type inode struct{ dev, ino uint64 }

// inodes fills Same: names is the paths of each inode.
func (t Tree) inodes(names map[inode][]string) {
	for _, paths := range names {
		slices.Sort(paths)
		for _, p := range paths {
			e := t[p]
			e.Same = paths[0]
			t[p] = e
		}
	}
}

// FromImage reads the tree of a raw EROFS image with go-erofs.
func FromImage(r io.ReaderAt) (Tree, error) {
	fsys, err := erofs.Open(r)
	if err != nil {
		return nil, err
	}
	return FromFS(fsys, true)
}

// FromFS reads a tree of package erofs, with or without the files' contents.
func FromFS(fsys fs.ReadLinkFS, contents bool) (Tree, error) {
	t := Tree{}
	names := map[inode][]string{}
	err := walk(fsys, ".", func(name string, info fs.FileInfo) error {
		e, err := entryOf(fsys, name, info, contents)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		t[name] = e
		ino := inode{ino: uint64(info.Sys().(*goerofs.Stat).Ino)}
		names[ino] = append(names[ino], name)
		return nil
	})
	t.inodes(names)
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

func entryOf(fsys fs.ReadLinkFS, name string, info fs.FileInfo, contents bool) (e Entry, err error) {
	attr, err := erofs.AttrOf(info)
	if err != nil {
		return e, err
	}
	st := info.Sys().(*goerofs.Stat)
	e = Entry{
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
	return sum(f)
}

func sum(r io.Reader) (string, error) {
	h := sha256.New()
	_, err := io.Copy(h, r)
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

// Diff describes how got differs from want, file by file; "" if it does not.
func Diff(got, want Tree) string {
	const show = 20
	out, n := "", 0
	for _, name := range slices.Sorted(maps.Keys(union(got, want))) {
		g, inGot := got[name]
		w, inWant := want[name]
		d := ""
		switch {
		case !inGot:
			d = "missing\n"
		case !inWant:
			d = fmt.Sprintf("not wanted: %+v\n", g)
		default:
			d = cmp.Diff(w, g)
		}
		if d == "" {
			continue
		}
		if n++; n <= show {
			out += fmt.Sprintf("%q (-want +got): %s", name, d)
		}
	}
	if n > show {
		out += fmt.Sprintf("and %d more files\n", n-show)
	}
	return out
}

func union(a, b Tree) Tree {
	u := maps.Clone(a)
	maps.Copy(u, b)
	return u
}

// CheckTrees fails the test where got differs from want.
func CheckTrees(t testing.TB, got, want Tree) {
	t.Helper()
	if d := Diff(got, want); d != "" {
		t.Errorf("trees differ:\n%s", d)
	}
}
