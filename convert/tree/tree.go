// Package tree compares file trees in every attribute and byte.
//
//	got, err := tree.Read("/mnt/a")
//	want, err := tree.Read("/mnt/b")
//	for _, d := range tree.Diff(got, want) {
//		fmt.Println(d)
//	}
package tree

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"time"
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

// Link says that all of paths are one inode: it fills Same.
func (t Tree) Link(paths []string) {
	first := slices.Min(paths)
	for _, p := range paths {
		e := t[p]
		e.Same = first
		t[p] = e
	}
}

// Sum is the sum of what r holds, as an Entry has it.
func Sum(r io.Reader) (string, error) {
	h := sha256.New()
	_, err := io.Copy(h, r)
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

// Difference is one attribute of one file.
type Difference struct {
	Path string `json:"path"`
	// Attr is "mode", "xattr user.x" and the like, or "file" where one tree has none.
	Attr string `json:"attr"`
	Got  string `json:"got"`
	Want string `json:"want"`
}

func (d Difference) String() string {
	return fmt.Sprintf("%q: %s is %s, want %s", d.Path, d.Attr, d.Got, d.Want)
}

// none stands for what is not there.
const none = "none"

// Diff says how got differs from want, by path.
func Diff(got, want Tree) (list []Difference) {
	all := maps.Clone(got)
	maps.Copy(all, want)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		g, inGot := got[path]
		w, inWant := want[path]
		switch {
		case !inGot:
			list = append(list, Difference{path, "file", none, w.kind()})
		case !inWant:
			list = append(list, Difference{path, "file", g.kind(), none})
		default:
			list = append(list, diffEntries(path, g, w)...)
		}
	}
	return list
}

func diffEntries(path string, got, want Entry) (list []Difference) {
	g, w := got.attrs(), want.attrs()
	for i := range g {
		if g[i].value != w[i].value {
			list = append(list, Difference{path, g[i].name, g[i].value, w[i].value})
		}
	}
	all := maps.Clone(got.Xattrs)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, want.Xattrs)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if g, w := got.xattr(name), want.xattr(name); g != w {
			list = append(list, Difference{path, "xattr " + name, g, w})
		}
	}
	return list
}

// attr is an attribute as a person reads it.
type attr struct{ name, value string }

// attrs are those that every file has, in an order that is the same for all.
func (e Entry) attrs() []attr {
	return []attr{
		{"type", e.kind()},
		{"mode", fmt.Sprintf("%04o", e.Mode)},
		{"uid", fmt.Sprint(e.UID)},
		{"gid", fmt.Sprint(e.GID)},
		{"size", fmt.Sprint(e.Size)},
		{"links", fmt.Sprint(e.Nlink)},
		{"device", fmt.Sprintf("%#x", e.Rdev)},
		{"mtime", e.Mtime.Format(time.RFC3339Nano)},
		{"target", fmt.Sprintf("%q", e.Target)},
		{"sha256", e.Sum},
		{"inode", fmt.Sprintf("that of %q", e.Same)},
	}
}

func (e Entry) xattr(name string) string {
	if v, ok := e.Xattrs[name]; ok {
		return fmt.Sprintf("%q", v)
	}
	return none
}

func (e Entry) kind() string {
	switch {
	case e.Type == 0:
		return "regular file"
	case e.Type == fs.ModeDir:
		return "directory"
	case e.Type == fs.ModeSymlink:
		return "symbolic link"
	case e.Type == fs.ModeDevice|fs.ModeCharDevice:
		return "character device"
	case e.Type == fs.ModeDevice:
		return "block device"
	case e.Type == fs.ModeNamedPipe:
		return "fifo"
	}
	return "socket"
}
