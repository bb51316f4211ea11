// Package overlay shows layers of EROFS as a container sees them: one file system, by the
// rules of overlayfs.
//
//	fsys := overlay.FS{top, middle, bottom} // each from erofs.Open or erofs.OpenMetadata
//	err := fsys.Walk(".", func(f overlay.File) error { ... })
//
// A whiteout hides a name of the layers below, an opaque directory hides what they have in it,
// a directory on a directory joins with it, and anything else covers. In the root overlayfs
// heeds no opaque mark, and neither does this.
package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/lithify/lithify/erofs"
)

// FS are layers, the topmost first. It may be used from several goroutines if they may.
type FS []fs.ReadLinkFS

// File is a name of the file system.
type File struct {
	Path string      // relative to the root, which is "."
	Info fs.FileInfo // of the layer that it is seen in
	// Layers are where it comes from, as indexes into FS: of a directory all that
	// take part, topmost first, of anything else the one.
	Layers []int
}

// Lstat finds a file without following a symbolic link at the end of its name, or on the way
// to it. What is not there is an fs.ErrNotExist.
func (f FS) Lstat(name string) (File, error) {
	at, err := f.root()
	if err != nil || name == "." {
		return at, err
	}
	for part := range strings.SplitSeq(name, "/") {
		if !at.Info.IsDir() {
			return File{}, &fs.PathError{Op: "lstat", Path: name, Err: fmt.Errorf("%s is no directory: %w", at.Path, fs.ErrNotExist)}
		}
		next, err := f.child(at, part)
		if err != nil {
			return File{}, err
		}
		if next == nil {
			return File{}, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
		}
		at = *next
	}
	return at, nil
}

func (f FS) root() (File, error) {
	root := File{Path: "."}
	for i, l := range f {
		info, err := l.Lstat(".")
		if err != nil {
			return File{}, err
		}
		if i == 0 {
			root.Info = info
		}
		root.Layers = append(root.Layers, i)
	}
	if root.Info == nil {
		return File{}, &fs.PathError{Op: "lstat", Path: ".", Err: fs.ErrNotExist}
	}
	return root, nil
}

// child finds a name in a directory; nil where there is none.
func (f FS) child(dir File, base string) (*File, error) {
	m := merging{File: File{Path: path.Join(dir.Path, base)}}
	for _, i := range dir.Layers {
		info, err := f[i].Lstat(m.Path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if m.add(i, info); m.done {
			break
		}
	}
	if m.Info == nil {
		return nil, nil
	}
	return &m.File, nil
}

// merging is a name of which the layers are looked at, one after the other.
type merging struct {
	File
	done bool // no layer further down counts
}

// add takes in what the next layer that has the name has there.
func (m *merging) add(layer int, info fs.FileInfo) {
	switch {
	case m.done:
		return
	case erofs.IsWhiteout(info), m.Info != nil && !info.IsDir():
		m.done = true
		return
	case m.Info == nil:
		m.Info = info
	}
	m.Layers = append(m.Layers, layer)
	m.done = !info.IsDir() || erofs.IsOpaque(info)
}

// ReadDir lists a directory by name.
func (f FS) ReadDir(dir File) ([]File, error) {
	names := map[string]*merging{}
	for _, i := range dir.Layers {
		list, err := fs.ReadDir(f[i], dir.Path)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			m := names[e.Name()]
			if m == nil {
				m = &merging{File: File{Path: path.Join(dir.Path, e.Name())}}
				names[e.Name()] = m
			}
			if m.done {
				continue
			}
			info, err := e.Info()
			if err != nil {
				return nil, err
			}
			m.add(i, info)
		}
	}
	var out []File
	for _, m := range names {
		if m.Info != nil {
			out = append(out, m.File)
		}
	}
	slices.SortFunc(out, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// Walk calls visit for name and all below it, a directory before what it holds, in the order
// of their names. visit may return fs.SkipDir for a directory.
func (f FS) Walk(name string, visit func(File) error) error {
	at, err := f.Lstat(name)
	if err != nil {
		return err
	}
	return f.walk(at, visit)
}

func (f FS) walk(at File, visit func(File) error) error {
	err := visit(at)
	if err == fs.SkipDir && at.Info.IsDir() {
		return nil
	}
	if err != nil || !at.Info.IsDir() {
		return err
	}
	list, err := f.ReadDir(at)
	if err != nil {
		return err
	}
	for _, k := range list {
		if err := f.walk(k, visit); err != nil {
			return err
		}
	}
	return nil
}

// Attr are the attributes that a container sees: overlayfs keeps its own to itself.
func (at File) Attr() (erofs.Attr, error) {
	attr, err := erofs.AttrOf(at.Info)
	for name := range attr.Xattrs {
		if strings.HasPrefix(name, "trusted.overlay.") {
			delete(attr.Xattrs, name) // a copy, see AttrOf
		}
	}
	if len(attr.Xattrs) == 0 {
		attr.Xattrs = nil
	}
	return attr, err
}

// ReadLink gives the target of a symbolic link.
func (f FS) ReadLink(at File) (string, error) { return f[at.Layers[0]].ReadLink(at.Path) }

// Open opens a regular file.
func (f FS) Open(at File) (fs.File, error) {
	if !at.Info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: at.Path, Err: fmt.Errorf("no regular file: %w", fs.ErrInvalid)}
	}
	return f[at.Layers[0]].Open(at.Path)
}
