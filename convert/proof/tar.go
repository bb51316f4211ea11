package proof

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"strings"
)

// Marks of layers in tars: the OCI image spec, "Representing Changes", and AUFS's own files.
const (
	markWhiteout = ".wh."
	markAUFS     = ".wh..wh."
	markOpaque   = ".wh..wh..opq"
	markLinks    = ".wh..wh.plnk/" // what AUFS's hard links name
)

// Tar is what the tar of a layer says of its files.
type Tar struct {
	root   *node
	bottom bool
	aufs   map[string]*node
	lower  map[string]*node // targets of hard links that the layer does not hold
	needs  Needs

	Entries int   // in the tar
	Bytes   int64 // of contents
}

// Needs are what a layer's tar leaves to the layers below, each sorted.
type Needs struct {
	Dirs  []string
	Links []string
	// RootNames says that the names in the root of the layers below are hidden, each by itself.
	RootNames bool
}

// NewTar is an empty layer. bottom says that none lies below it.
func NewTar(bottom bool) *Tar {
	return &Tar{root: newDir(), bottom: bottom, aufs: map[string]*node{}, lower: map[string]*node{}}
}

// Read reads a tar to its end. It may be called once.
func (t *Tar) Read(r io.Reader) error {
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if err == io.EOF {
			_, err = io.Copy(io.Discard, r) // what lies behind the archive
			return err
		}
		if err != nil {
			return fmt.Errorf("archive/tar: %w", err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		t.Entries++
		if err := t.apply(h, in); err != nil {
			return fmt.Errorf("tar entry %q: %w", h.Name, err)
		}
	}
}

func (t *Tar) apply(h *tar.Header, r io.Reader) error {
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	dir, base := path.Split(name)
	dir = path.Clean(dir)
	if isAUFS(name) {
		return t.applyAUFS(name, h, r)
	}
	switch {
	case base == markOpaque:
		return t.opaque(dir, h)
	case strings.HasPrefix(base, markWhiteout):
		n, err := attributes(h)
		if err != nil {
			return err
		}
		n.typ = whiteoutType
		return t.put(dir, base[len(markWhiteout):], n)
	}
	n, err := t.node(h, r)
	if err != nil {
		return err
	}
	if name == "." {
		return t.root.become(n)
	}
	return t.put(dir, base, n)
}

// clean makes a name relative to the root, which is ".".
func clean(name string) (string, error) {
	if name == "" {
		return "", errors.New("no name")
	}
	rest := strings.Trim(name, "/")
	if rest != "" && name[0] == '/' || strings.Contains("/"+name+"/", "/../") {
		return "", errors.New("a name that leads out of the layer")
	}
	return strings.Clone(path.Clean(rest)), nil // of a header that may be long
}

// isAUFS reports whether a name is AUFS's own.
func isAUFS(name string) bool {
	dir, base := path.Split(name)
	return strings.Contains("/"+dir, "/"+markAUFS) || strings.HasPrefix(base, markAUFS) && base != markOpaque
}

func (t *Tar) applyAUFS(name string, h *tar.Header, r io.Reader) error {
	if !strings.HasPrefix(name, markLinks) || h.Typeflag == tar.TypeLink {
		return nil
	}
	n, err := t.node(h, r)
	if err == nil && n.typ == 0 {
		t.aufs[name] = n
	}
	return err
}

// opaque empties a directory. The mark's time is that of one that has no other.
func (t *Tar) opaque(dir string, h *tar.Header) error {
	if t.bottom {
		return nil
	}
	d, err := t.dir(dir)
	if err != nil {
		return err
	}
	d.flags |= hides
	if d.has(implied) && (d.mtime.IsZero() || h.ModTime.After(d.mtime)) {
		d.mtime = h.ModTime
	}
	return nil
}

// dir gives a directory, and makes what of it is not there.
func (t *Tar) dir(name string) (*node, error) {
	at := t.root
	if name == "." {
		return at, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		next := at.kids[part]
		switch {
		case next == nil:
			next = newDir()
			at.kids[part] = next
		case next.isWhiteout():
			next = newDir()
			next.flags |= hides | fresh
			at.kids[part] = next
		case !next.isDir():
			return nil, fmt.Errorf("lies below %s, which is no directory", part)
		}
		at = next
	}
	return at, nil
}

// put gives a node a name, as a container's file system would have it afterwards.
func (t *Tar) put(dir, base string, n *node) error {
	if t.bottom && n.isWhiteout() {
		return nil
	}
	d, err := t.dir(dir)
	if err != nil {
		return err
	}
	old := d.kids[base]
	switch {
	case old == nil:
	case n.isWhiteout() && old.isDir():
		old.flags |= hides | fresh
		return nil
	case n.isWhiteout() && !old.isWhiteout():
		return nil
	case n.isDir() && old.isDir():
		return old.become(n)
	case n.isDir():
		n.flags |= hides | fresh
	}
	d.kids[base] = n
	return nil
}

// become gives a directory the attributes of another entry of its name.
func (n *node) become(d *node) error {
	if !d.isDir() {
		return errors.New("the root is no directory")
	}
	n.mode, n.uid, n.gid, n.mtime = d.mode, d.uid, d.gid, d.mtime
	n.flags &^= implied
	for k, v := range d.attrs() {
		n.setXattr(k, v)
	}
	return nil
}

func (n *node) setXattr(name, value string) {
	m := n.need()
	if m.xattrs == nil {
		m.xattrs = map[string]string{}
	}
	m.xattrs[name] = value
}

func (t *Tar) node(h *tar.Header, r io.Reader) (*node, error) {
	if h.Typeflag == tar.TypeLink {
		return t.link(h)
	}
	n, err := attributes(h)
	if err != nil {
		return nil, err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		n.typ = fs.ModeDir
		n.need().kids = map[string]*node{}
	case tar.TypeSymlink:
		n.typ, n.size = fs.ModeSymlink, int64(len(h.Linkname))
		n.need().target = strings.Clone(h.Linkname)
	case tar.TypeChar:
		n.typ = fs.ModeDevice | fs.ModeCharDevice
	case tar.TypeBlock:
		n.typ = fs.ModeDevice
	case tar.TypeFifo:
		n.typ = fs.ModeNamedPipe
	default:
		n.size = h.Size
		return n, t.contents(n, r)
	}
	if n.typ&fs.ModeDevice != 0 {
		n.rdev = encodeDevice(uint64(h.Devmajor), uint64(h.Devminor))
	}
	return n, nil
}

// encodeDevice is Linux' new_encode_dev.
func encodeDevice(major, minor uint64) uint32 {
	return uint32(minor&0xff | major<<8 | minor&^0xff<<12)
}

func (t *Tar) contents(n *node, r io.Reader) error {
	h := sha256.New()
	size, err := io.Copy(h, r)
	if err == nil && size != n.size {
		err = fmt.Errorf("%d bytes instead of %d", size, n.size)
	}
	h.Sum(n.sum[:0])
	t.Bytes += size
	return err
}

// link gives the node that a hard link names: of this layer, of AUFS's, or of a lower layer.
func (t *Tar) link(h *tar.Header) (*node, error) {
	target := strings.Clone(path.Clean(strings.TrimLeft(h.Linkname, "/")))
	if n := t.aufs[target]; n != nil {
		return n, nil
	}
	n, hidden := t.root.find(target)
	switch {
	case n != nil && (n.isDir() || n.isWhiteout()), n == nil && hidden:
		return nil, fmt.Errorf("a hard link to %q, which is no file here", target)
	case n != nil:
		return n, nil
	}
	if n = t.lower[target]; n == nil {
		n = &node{more: &more{from: target}}
		t.lower[target] = n
	}
	return n, nil
}

// paxXattr stands before the names of extended attributes in PAX headers.
const paxXattr = "SCHILY.xattr."

func attributes(h *tar.Header) (*node, error) {
	n := &node{mode: uint16(h.Mode & 0o7777), uid: owner(h.Uid), gid: owner(h.Gid), mtime: h.ModTime}
	for k, v := range h.PAXRecords {
		name, ok := strings.CutPrefix(k, paxXattr)
		if !ok || !onLinux(name) {
			continue
		}
		if strings.HasPrefix(name, "trusted.overlay.") {
			return nil, fmt.Errorf("the attribute %s is overlayfs's own", name)
		}
		n.setXattr(strings.Clone(name), strings.Clone(v))
	}
	return n, nil
}

// owner is what Linux has for an owner that does not fit.
func owner(id int) uint32 {
	if id < 0 || int64(id) > math.MaxUint32 {
		return math.MaxUint32
	}
	return uint32(id)
}

// onLinux reports whether a file system of Linux takes an attribute.
func onLinux(name string) bool {
	for _, prefix := range []string{"user.", "trusted.", "security."} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return rest != ""
		}
	}
	return name == "system.posix_acl_access" || name == "system.posix_acl_default"
}
