package proof

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
)

// settle finishes the layer with what the layers below say. It gives an error where they do
// not answer what the layer cannot do without.
func (t *Tar) settle(c *erofs.Context) error {
	if c == nil {
		c = &erofs.Context{}
	}
	t.needs = Needs{Links: slices.Sorted(maps.Keys(t.lower))}
	if t.root.has(hides) {
		if err := t.hideRoot(c.RootNames); err != nil {
			return err
		}
	}
	t.settleDir(".", t.root, false, c)
	slices.Sort(t.needs.Dirs)
	for target, n := range t.lower {
		f, ok := c.Links[target]
		if !ok {
			return fmt.Errorf("a hard link to %q in a lower layer, of which nothing is known", target)
		}
		if err := n.copyUp(f); err != nil {
			return fmt.Errorf("a hard link to %q in a lower layer: %w", target, err)
		}
	}
	times(t.root)
	count(t.root)
	return nil
}

// hideRoot hides the names of the layers below in the root, where overlayfs heeds no mark.
func (t *Tar) hideRoot(names []string) error {
	t.needs.RootNames = true
	t.root.flags &^= hides
	if names == nil {
		return fmt.Errorf("a root that hides all below, of which the names are not known")
	}
	for _, k := range t.root.kids {
		if k.isDir() {
			k.flags |= hides | fresh
		}
	}
	for _, name := range names {
		if t.root.kids[name] == nil {
			t.root.kids[name] = &node{typ: whiteoutType, mtime: time.Unix(0, 0)}
		}
	}
	return nil
}

// settleDir gives directories that the tar does not list the attributes that they have below.
func (t *Tar) settleDir(name string, d *node, hidden bool, c *erofs.Context) {
	if d.has(implied) && !hidden {
		t.needs.Dirs = append(t.needs.Dirs, name)
		if a, ok := c.Dirs[name]; ok {
			d.mode, d.uid, d.gid = a.Mode&0o7777, a.UID, a.GID
			d.takeXattrs(a.Xattrs)
		}
	}
	if d.has(hides) && !t.bottom {
		d.setXattr(opaque, "y")
	}
	for base, k := range d.kids {
		if k.isDir() {
			t.settleDir(path.Join(name, base), k, hidden || d.has(hides) || k.has(fresh), c)
		}
	}
}

// takeXattrs takes attributes of a lower layer, of which the mark stays there.
func (n *node) takeXattrs(from erofs.Xattrs) {
	for k, v := range from {
		if k != opaque && onLinux(k) {
			n.setXattr(k, v)
		}
	}
}

func (n *node) copyUp(f erofs.LowerFile) error {
	n.typ, n.mode, n.uid, n.gid = f.Type.Type(), f.Mode&0o7777, f.UID, f.GID
	n.mtime, n.size, n.rdev = f.ModTime, f.Size, f.Rdev
	n.takeXattrs(f.Xattrs)
	switch n.typ {
	case fs.ModeSymlink:
		n.target, n.size = f.Target, int64(len(f.Target))
	case 0:
		if f.Digest.Validate() != nil || f.Digest.Algorithm() != digest.SHA256 {
			return fmt.Errorf("its digest is %q", f.Digest)
		}
		_, err := hex.Decode(n.sum[:], []byte(f.Digest.Encoded()))
		return err
	}
	return nil
}

// times gives directories that the tar does not list the newest time below them, and tells
// it of any.
func times(d *node) time.Time {
	top := d.mtime
	for _, k := range d.kids {
		m := k.mtime
		if k.isDir() {
			m = times(k)
		}
		if !m.IsZero() && (top.IsZero() || m.After(top)) {
			top = m
		}
	}
	if d.has(implied) {
		if d.mtime = top; top.IsZero() {
			d.mtime = time.Unix(0, 0)
		}
	}
	return top
}

// count counts names, as stat does: a directory has one in itself and one in each below.
func count(d *node) {
	d.links = 2
	for _, k := range d.kids {
		if k.isDir() {
			d.links++
			count(k)
		} else {
			k.links++
		}
	}
}

func trimOverlay(x map[string]string) map[string]string {
	var out map[string]string
	for k, v := range x {
		if strings.HasPrefix(k, "trusted.overlay.") {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[k] = v
	}
	return out
}
