package proof

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"

	"github.com/lithify/lithify/convert/overlay"
	"github.com/lithify/lithify/convert/tree"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
)

// Layer is one of a stack.
type Layer struct {
	FS      fs.ReadLinkFS  // its metadata, at least
	Needs   erofs.Needs    // what its tar leaves to the layers below
	Context *erofs.Context // what it was made with
}

// Stack compares what a container sees in layers, the bottom first, with what applying one
// after the other gives: a directory that a layer does not list is as it is below, what is
// deleted is gone, and what the layers' contexts say of the layers below holds. Only metadata
// is read. files is how many there are.
//
// What differs is a *DifferError.
func Stack(ctx context.Context, layers []Layer) (files int, err error) {
	applied := NewApplied()
	var view overlay.FS
	var wrong []tree.Difference
	for i, l := range layers {
		t, err := fromImage(ctx, l, i == 0)
		if err != nil {
			return 0, fmt.Errorf("layer %d: %w", i+1, err)
		}
		wrong = append(wrong, applied.checkContext(l)...)
		applied.Apply(t)
		view = append(overlay.FS{l.FS}, view...)
	}
	files, list, err := applied.compare(ctx, view, len(layers))
	if wrong = append(wrong, list...); err == nil && len(wrong) > 0 {
		err = &DifferError{wrong}
	}
	return files, err
}

// fromImage reads the tree of a layer's metadata. A whiteout in the bottom layer stays, and
// then is what a container would see.
func fromImage(ctx context.Context, l Layer, bottom bool) (*Tar, error) {
	t := NewTar(bottom)
	impliedDirs := map[string]bool{}
	for _, name := range l.Needs.Dirs {
		impliedDirs[name] = true
	}
	var fill func(name string, n *node) error
	fill = func(name string, n *node) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		list, err := fs.ReadDir(l.FS, name)
		if err != nil {
			return err
		}
		for _, e := range list {
			at := path.Join(name, e.Name())
			info, err := e.Info()
			if err != nil {
				return err
			}
			k, err := nodeOf(l.FS, at, info)
			if err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
			if impliedDirs[at] {
				k.flags |= implied
			}
			n.kids[e.Name()] = k
			if !k.isDir() {
				continue
			}
			if err := fill(at, k); err != nil {
				return err
			}
		}
		return nil
	}
	info, err := l.FS.Lstat(".")
	if err != nil {
		return nil, err
	}
	if t.root, err = nodeOf(l.FS, ".", info); err != nil {
		return nil, err
	}
	if t.root.flags &^= hides; impliedDirs["."] { // overlayfs heeds no mark there
		t.root.flags |= implied
	}
	return t, fill(".", t.root)
}

func nodeOf(fsys fs.ReadLinkFS, name string, info fs.FileInfo) (*node, error) {
	f, err := erofs.LowerFileOf(info)
	if err != nil {
		return nil, err
	}
	n := &node{typ: f.Type, mode: f.Mode, uid: f.UID, gid: f.GID, size: f.Size, rdev: f.Rdev, mtime: f.ModTime}
	if xattrs := trimOverlay(f.Xattrs); xattrs != nil {
		n.need().xattrs = xattrs
	}
	switch {
	case n.isDir():
		n.need().kids = map[string]*node{}
		if erofs.IsOpaque(info) {
			n.flags |= hides
		}
	case n.typ == fs.ModeSymlink:
		n.need().target, err = fsys.ReadLink(name)
		n.size = int64(len(n.target))
	}
	return n, err
}

// Applied are layers of tars, one applied after the other to an empty directory.
type Applied struct {
	root   *node
	layers int
}

// NewApplied is none.
func NewApplied() *Applied {
	return &Applied{root: newDir()}
}

// Apply applies the next layer, which must not be used any more.
func (a *Applied) Apply(t *Tar) {
	a.root.merge(t.root, a.layers, true)
	a.layers++
}

// merge puts what a layer has in a directory on what is there.
func (n *node) merge(d *node, layer int, root bool) {
	if !d.has(implied) || d.has(fresh) {
		n.mode, n.uid, n.gid = d.mode, d.uid, d.gid
		n.xattrs = trimOverlay(d.attrs())
	}
	n.mtime = d.mtime // the upper layer's, listed or not
	n.layer = layer
	if d.has(hides) && !root {
		clear(n.kids)
	}
	for base, k := range d.kids {
		old := n.kids[base]
		switch {
		case k.isWhiteout():
			delete(n.kids, base)
			continue
		case !k.isDir():
			k.need().layer = layer
			n.kids[base] = k
			continue
		case old == nil || !old.isDir():
			old = newDir()
			n.kids[base] = old
		}
		old.merge(k, layer, false)
	}
}

// checkContext compares what a layer was made with with what is below it.
func (a *Applied) checkContext(l Layer) (list []tree.Difference) {
	differ := func(name, got, want string) {
		list = append(list, tree.Difference{Path: name, Attr: "what the layer was told of it", Got: got, Want: want})
	}
	if l.Context == nil {
		if len(l.Needs.Links) > 0 || l.Needs.RootNames {
			differ(".", "nothing", "links and names of lower layers")
		}
		return list
	}
	for target, f := range l.Context.Links {
		n, _ := a.root.find(target)
		if n == nil || n.typ != f.Type || n.mode != f.Mode || n.uid != f.UID || n.gid != f.GID || !n.mtime.Equal(f.ModTime) || n.rdev != f.Rdev ||
			n.typ == 0 && n.size != f.Size || !maps.Equal(n.attrs(), map[string]string(trimOverlay(f.Xattrs))) || n.entry().Target != f.Target {
			differ(target, "another file", "what the layers below have")
		}
	}
	if l.Needs.RootNames && !slices.Equal(l.Context.RootNames, a.root.names()) {
		differ(".", fmt.Sprintf("%d names", len(l.Context.RootNames)), fmt.Sprintf("%d names", len(a.root.kids)))
	}
	return list
}

// Context answers a layer that has been read and not compared yet, out of the layers below it.
func (a *Applied) Context(t *Tar) (*erofs.Context, error) {
	c := &erofs.Context{Dirs: map[string]erofs.Attr{}, Links: map[string]erofs.LowerFile{}}
	for target := range t.lower {
		n, _ := a.root.find(target)
		if n == nil || n.isDir() {
			return nil, fmt.Errorf("a hard link to %q, which no layer has", target)
		}
		c.Links[target] = n.lowerFile()
	}
	if t.root.has(hides) {
		c.RootNames = a.root.names()
	}
	err := t.root.walk(".", func(name string, n *node) error {
		if !n.isDir() || !n.has(implied) {
			return nil
		}
		if below, _ := a.root.find(name); below != nil && below.isDir() {
			c.Dirs[name] = erofs.Attr{Mode: below.mode, UID: below.uid, GID: below.gid, Xattrs: below.attrs()}
		}
		return nil
	})
	return c, err
}

// Compare compares what has been applied with what a container sees in the layers of an image,
// the topmost first. What differs is a *DifferError.
func (a *Applied) Compare(ctx context.Context, view overlay.FS) (files int, err error) {
	files, list, err := a.compare(ctx, view, a.layers)
	if err == nil && len(list) > 0 {
		err = &DifferError{list}
	}
	return files, err
}

var errEnough = errors.New("enough differences")

func (a *Applied) compare(ctx context.Context, view overlay.FS, layers int) (files int, list []tree.Difference, err error) {
	add := func(more ...tree.Difference) error {
		if list = append(list, more...); len(list) >= maxDifferences {
			return errEnough
		}
		return nil
	}
	err = view.Walk(".", func(f overlay.File) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		files++
		want, _ := a.root.find(f.Path)
		if want == nil {
			return add(tree.Difference{Path: f.Path, Attr: "file", Got: "there", Want: "none"})
		}
		got, err := nodeOf(view[f.Layers[0]], f.Path, f.Info)
		if err != nil {
			return err
		}
		if layer := layers - 1 - f.Layers[0]; layer != want.layer {
			return add(tree.Difference{Path: f.Path, Attr: "layer", Got: fmt.Sprint(layer + 1), Want: fmt.Sprint(want.layer + 1)})
		}
		got.links = want.links
		if got.is(want) {
			return nil
		}
		w, g := want.entry(), got.entry()
		return add(tree.Diff(tree.Tree{f.Path: g}, tree.Tree{f.Path: w})...)
	})
	names := 0
	a.root.walk(".", func(string, *node) error { names++; return nil })
	if err == nil && files < names {
		err = a.root.walk(".", func(name string, n *node) error {
			_, err := view.Lstat(name)
			if errors.Is(err, fs.ErrNotExist) {
				err = add(tree.Difference{Path: name, Attr: "file", Got: "none", Want: "there"})
			}
			return err
		})
	}
	if err == errEnough {
		err = nil
	}
	return files, list, err
}

func (n *node) lowerFile() erofs.LowerFile {
	f := erofs.LowerFile{
		Attr: erofs.Attr{Mode: n.mode, UID: n.uid, GID: n.gid, Xattrs: n.attrs()},
		Type: n.typ, ModTime: n.mtime, Rdev: n.rdev, Target: n.entry().Target,
	}
	if n.typ == 0 {
		f.Size = n.size
		f.Digest = digest.NewDigestFromBytes(digest.SHA256, n.sum[:])
	}
	return f
}
