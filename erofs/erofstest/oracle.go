package erofstest

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/lithify/lithify/convert/tree"
)

// FromTar applies a layer's tar to an empty tree the way an image layer with
// whiteouts for overlayfs has to look, with archive/tar and a map of paths: slow,
// and independent of package erofs. It also gives the directories the tar uses
// and does not list. Hard links must lead into the layer.
func FromTar(r io.Reader, bottom bool) (tree.Tree, []string, error) {
	o := &oracle{nodes: map[string]*node{".": impliedDir()}, plnk: map[string]*node{}, bottom: bottom}
	tr := tar.NewReader(r)
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			return o.tree(), o.needs(), nil
		}
		if err != nil {
			return nil, nil, err
		}
		if hdr.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := o.apply(hdr, tr); err != nil {
			return nil, nil, fmt.Errorf("%q: %w", hdr.Name, err)
		}
	}
}

type node struct {
	tree.Entry
	implied, opaque, fresh bool
}

type oracle struct {
	nodes  map[string]*node
	plnk   map[string]*node
	bottom bool
}

func impliedDir() *node {
	return &node{Entry: tree.Entry{Type: fs.ModeDir, Mode: 0o755}, implied: true}
}

func (n *node) whiteout() bool {
	return n.Type == fs.ModeDevice|fs.ModeCharDevice && n.Rdev == 0
}

func (o *oracle) apply(hdr *tar.Header, r io.Reader) error {
	if hdr.Name == "" || strings.HasPrefix(hdr.Name, "/") || slices.Contains(strings.Split(hdr.Name, "/"), "..") {
		return errors.New("bad name")
	}
	name := path.Clean(hdr.Name)
	dir, base := path.Split(name)
	dir = path.Clean(dir)
	n, err := o.node(name, hdr, r)
	if err != nil {
		return err
	}
	if junk := strings.Contains("/"+name, "/.wh..wh."); junk && (base != ".wh..wh..opq" || strings.Contains("/"+dir, "/.wh..wh.")) {
		if n.Type == 0 && strings.HasPrefix(name, ".wh..wh.plnk/") {
			o.plnk[name] = n
		}
		return nil
	}
	switch {
	case base == ".wh..wh..opq":
		if o.bottom {
			return nil
		}
		if err := o.mkdir(dir); err != nil {
			return err
		}
		d := o.nodes[dir]
		d.opaque = true
		if d.implied && n.Mtime.After(d.Mtime) || d.Mtime.IsZero() {
			d.Mtime = n.Mtime
		}
		return nil
	case strings.HasPrefix(base, ".wh."):
		name = path.Join(dir, strings.TrimPrefix(base, ".wh."))
		n.Entry = tree.Entry{Type: fs.ModeDevice | fs.ModeCharDevice, Mode: n.Mode, UID: n.UID, GID: n.GID, Mtime: n.Mtime, Xattrs: n.Xattrs}
	}
	return o.put(dir, name, n)
}

// put is where containerd's applier would remove what is there and create n.
func (o *oracle) put(dir, name string, n *node) error {
	if o.bottom && n.whiteout() {
		return nil
	}
	if name == "." {
		if n.Type != fs.ModeDir {
			return errors.New("root is no directory")
		}
	} else if err := o.mkdir(dir); err != nil {
		return err
	}
	old := o.nodes[name]
	switch {
	case old == nil:
	case n.whiteout() && old.Type == fs.ModeDir:
		old.opaque, old.fresh = true, true
		return nil
	case n.whiteout() && !old.whiteout():
		return nil
	case n.Type == fs.ModeDir && old.Type == fs.ModeDir:
		for k, v := range old.Xattrs {
			if _, ok := n.Xattrs[k]; !ok {
				n.setXattr(k, v)
			}
		}
		n.opaque, n.fresh = old.opaque, old.fresh
	case n.Type == fs.ModeDir:
		n.opaque, n.fresh = true, true
	case old.Type == fs.ModeDir:
		for p := range o.nodes {
			if strings.HasPrefix(p, name+"/") {
				delete(o.nodes, p)
			}
		}
	}
	o.nodes[name] = n
	return nil
}

func (o *oracle) mkdir(dir string) error {
	if dir == "." {
		return nil
	}
	if err := o.mkdir(path.Dir(dir)); err != nil {
		return err
	}
	switch d := o.nodes[dir]; {
	case d == nil:
		o.nodes[dir] = impliedDir()
	case d.whiteout():
		o.nodes[dir] = impliedDir()
		o.nodes[dir].opaque, o.nodes[dir].fresh = true, true
	case d.Type != fs.ModeDir:
		return errors.New("below a file")
	}
	return nil
}

func (n *node) setXattr(k, v string) {
	if n.Xattrs == nil {
		n.Xattrs = map[string]string{}
	}
	n.Xattrs[k] = v
}

// linuxXattr are the names that a Linux file system takes.
var linuxXattr = regexp.MustCompile(`(?s)^(user|trusted|security)\..|^system\.posix_acl_(access|default)$`)

func (o *oracle) node(name string, hdr *tar.Header, r io.Reader) (*node, error) {
	n := &node{Entry: tree.Entry{Mode: uint16(hdr.Mode & 0o7777), UID: uint32(hdr.Uid), GID: uint32(hdr.Gid), Mtime: hdr.ModTime.UTC()}}
	for k, v := range hdr.PAXRecords {
		if k, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok && linuxXattr.MatchString(k) {
			n.setXattr(k, v)
		}
	}
	switch hdr.Typeflag {
	case tar.TypeDir:
		n.Type = fs.ModeDir
	case tar.TypeSymlink:
		n.Type, n.Target, n.Size = fs.ModeSymlink, hdr.Linkname, int64(len(hdr.Linkname))
	case tar.TypeChar:
		n.Type = fs.ModeDevice | fs.ModeCharDevice
	case tar.TypeBlock:
		n.Type = fs.ModeDevice
	case tar.TypeFifo:
		n.Type = fs.ModeNamedPipe
	case tar.TypeLink:
		if strings.Contains("/"+name, "/.wh.") {
			return n, nil // the type of whiteouts and AUFS' files does not matter
		}
		target := path.Clean(strings.TrimLeft(hdr.Linkname, "/"))
		if t := o.plnk[target]; t != nil {
			return t, nil
		}
		if t := o.nodes[target]; t != nil && t.Type != fs.ModeDir {
			return t, nil
		}
		return nil, errors.New("no such file to link to")
	default:
		n.Size = hdr.Size
		var err error
		n.Sum, err = tree.Sum(r)
		return n, err
	}
	if n.Type&fs.ModeDevice != 0 {
		major, minor := uint32(hdr.Devmajor), uint32(hdr.Devminor)
		n.Rdev = minor&0xff | major<<8 | minor&^0xff<<12
	}
	return n, nil
}

func (o *oracle) tree() tree.Tree {
	for name, n := range o.nodes {
		if n.implied {
			n.Mtime = o.newest(name, n)
		}
	}
	t := tree.Tree{}
	names := map[*node][]string{}
	for name, n := range o.nodes {
		names[n] = append(names[n], name)
	}
	for n, paths := range names {
		n.Nlink = uint64(len(paths))
		if n.Type == fs.ModeDir {
			n.Nlink = 2
			if n.opaque && !o.bottom {
				n.setXattr("trusted.overlay.opaque", "y")
			}
		}
		n.Same = slices.Min(paths)
	}
	for name, n := range o.nodes {
		if n.Type == fs.ModeDir && name != "." {
			o.nodes[path.Dir(name)].Nlink++
		}
	}
	for name, n := range o.nodes {
		t[name] = n.Entry
	}
	return t
}

// newest is the latest time below a directory that the tar did not list.
func (o *oracle) newest(dir string, d *node) time.Time {
	top, any := d.Mtime, !d.Mtime.IsZero()
	for name, n := range o.nodes {
		below := dir == "." && name != "." || strings.HasPrefix(name, dir+"/")
		if below && !(n.implied && n.Mtime.IsZero()) && (!any || n.Mtime.After(top)) {
			top, any = n.Mtime, true
		}
	}
	if !any {
		return time.Unix(0, 0).UTC()
	}
	return top
}

func (o *oracle) needs() []string {
	var dirs []string
	for name, n := range o.nodes {
		if n.implied && !o.hidden(name) {
			dirs = append(dirs, name)
		}
	}
	slices.Sort(dirs)
	return dirs
}

// hidden reports whether nothing of a directory can be seen in lower layers.
func (o *oracle) hidden(name string) bool {
	if o.nodes[name].fresh {
		return true
	}
	for name != "." {
		name = path.Dir(name)
		if o.nodes[name].opaque {
			return true
		}
	}
	return false
}
