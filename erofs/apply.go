package erofs

import (
	"io"
	"strings"
)

// layerReader applies the entries of a tar to a tree and sends their contents
// to the image.
type layerReader struct {
	tar     *tarReader
	tree    *tree
	layout  layout
	opts    Options
	entries int
	links   map[string]*inode // targets outside this layer: copies of lower files
	missing []string          // of those, the ones the context does not describe
	aufs    map[string]*inode // files below .wh..wh.plnk, for AUFS' hard links
}

// readAll reads the archive to its end and whatever follows it.
func (l *layerReader) readAll() error {
	for {
		e, err := l.tar.next()
		if err == io.EOF {
			return l.tar.in.drain()
		}
		if err != nil {
			return err
		}
		l.entries++
		if err := l.apply(e); err != nil {
			return err
		}
	}
}

// apply takes in one entry with its data.
func (l *layerReader) apply(e *entry) error {
	name, why := cleanName(e.name, l.opts.Limits.PathLen)
	if why != "" {
		return l.tar.bad(why)
	}
	dir, base := splitName(name)
	switch {
	case isJunk(name):
		return l.junk(name, e)
	case belowWhiteout(dir):
		return l.tar.bad("it lies below a whiteout")
	case base == whiteoutOpaque:
		return l.opaque(dir, e)
	case strings.HasPrefix(base, whiteout):
		return l.whiteout(dir, base[len(whiteout):], e)
	case name == "" && e.typ != typeDir:
		return l.tar.bad("the layer's root is not a directory")
	}
	n, err := l.inode(e)
	if err != nil {
		return err
	}
	if name == "" {
		if why := l.tree.root.become(n); why != "" {
			return l.tar.bad(why)
		}
		return l.tree.charge(0)
	}
	return l.put(dir, base, n)
}

func (l *layerReader) put(dir, base string, n *inode) error {
	if l.opts.Bottom && n.isWhiteout() {
		return l.tree.charge(0)
	}
	at, why, err := l.tree.dir(dir)
	if err != nil {
		return err
	}
	if why != "" {
		return l.tar.bad(why)
	}
	if n.isDir() {
		n.parent = at
	}
	if why := l.tree.put(at, strings.Clone(base), n); why != "" {
		return l.tar.bad(why)
	}
	return l.tree.charge(len(base))
}

// inode makes the inode of an entry, or finds it for a hard link.
func (l *layerReader) inode(e *entry) (*inode, error) {
	if e.typ == typeLink {
		return l.link(e)
	}
	n, err := l.attributes(e)
	if err != nil {
		return nil, err
	}
	switch e.typ {
	case typeDir:
		n.mode |= sIFDIR
		n.need()
	case typeSymlink:
		n.mode |= sIFLNK
		return n, l.symlink(n, e.link)
	case typeChar, typeBlock:
		n.mode |= sIFCHR
		if e.typ == typeBlock {
			n.mode ^= sIFCHR ^ sIFBLK
		}
		if e.major > maxMajor || e.minor > maxMinor {
			return nil, l.tar.bad("device numbers beyond 4095 and 1048575")
		}
		n.data = encodeDevice(e.major, e.minor)
	case typeFifo:
		n.mode |= sIFIFO
	case typeReg:
		n.mode |= sIFREG
		return n, l.contents(n, e)
	}
	return n, nil
}

// need makes room for what only some inodes have.
func (n *inode) need() *more {
	if n.more == nil {
		n.more = &more{}
	}
	return n.more
}

// Linux keeps device numbers in 12 and 20 bits.
const (
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

// encodeDevice is Linux' new_encode_dev.
func encodeDevice(major, minor uint32) uint32 {
	return minor&0xff | major<<8 | minor&^0xff<<12
}

func (l *layerReader) attributes(e *entry) (*inode, error) {
	n := &inode{mode: e.mode, uid: e.uid, gid: e.gid, sec: e.sec, nsec: e.nsec}
	if len(e.xattrs) == 0 {
		return n, nil
	}
	held, list := 0, e.xattrs[:0]
	for _, x := range e.xattrs {
		if why := x.check(); why != "" {
			return nil, l.tar.bad(why)
		}
		if x.foreign() {
			continue
		}
		// They are pieces of the header, which may be a thousand times as large.
		list = append(list, xattr{strings.Clone(x.name), strings.Clone(x.value)})
		held += len(x.name) + len(x.value) + xattrHeld
	}
	if sizeOf(list) > maxXattrs {
		return nil, l.tar.bad(tooManyXattrs)
	}
	n.need().merge(list)
	return n, l.tree.charge(held)
}

func (l *layerReader) symlink(n *inode, target string) error {
	switch {
	case target == "":
		return l.tar.bad("a symbolic link without a target")
	case len(target) > maxTarget:
		return l.tar.bad("the symbolic link's target is longer than 4095 bytes")
	}
	n.need().target = target
	n.size = int64(len(target))
	return l.tree.charge(len(target))
}

// contents sends a regular file's data to the image.
func (l *layerReader) contents(n *inode, e *entry) error {
	n.size = e.size
	var err error
	if e.sparse || e.size > 0 {
		err = l.layout.file(n, e)
	}
	if err == nil {
		err = l.tar.in.pad(e.stored)
	}
	if err == nil && n.state&outside != 0 && l.tar.in.pos%tarBlock != 0 {
		return l.tar.bad("the tar ends before the last block of it is full, and a device has whole blocks: convert it to another profile")
	}
	return l.tar.readErr(err)
}

// link finds the inode a hard link names: in this layer, among AUFS' own files,
// or in the layers below.
func (l *layerReader) link(e *entry) (*inode, error) {
	target, why := cleanTarget(e.link, l.opts.Limits.PathLen)
	if why != "" {
		return nil, l.tar.bad(why)
	}
	if n := l.aufs[target]; n != nil {
		return n, nil
	}
	if name, _ := cleanName(e.name, l.opts.Limits.PathLen); name == target {
		return nil, l.tar.bad("a hard link to itself")
	}
	n, blocked, hidden := l.tree.find(target)
	switch {
	case blocked != nil:
		return nil, l.tar.bad("its hard link target " + target + " lies below " + blocked.kind() + " of this layer")
	case n == nil && hidden:
		return nil, l.tar.bad("its hard link target " + target + " lies in a directory that this layer has emptied")
	case n == nil:
		return l.lowerLink(target)
	case n.isDir():
		return nil, l.tar.bad("a hard link to the directory " + target)
	case n.isWhiteout():
		return nil, l.tar.bad("its hard link target " + target + " is deleted by this layer")
	}
	return n, nil
}

// skipData passes over the data of an entry that leaves none in the image.
func (l *layerReader) skipData(e *entry) error {
	err := l.tar.in.skip(e.stored)
	if err == nil {
		err = l.tar.in.pad(e.stored)
	}
	return l.tar.readErr(err)
}

// whiteout hides name of the layers below.
func (l *layerReader) whiteout(dir, name string, e *entry) error {
	if name == "" || name == "." || name == ".." || strings.HasPrefix(name, whiteout) {
		return l.tar.bad("a whiteout of no name")
	}
	if err := l.skipData(e); err != nil {
		return err
	}
	n, err := l.attributes(e)
	if err != nil {
		return err
	}
	n.mode |= sIFCHR
	return l.put(dir, name, n)
}

// opaque hides what the layers below have in dir. The mark's time counts for a
// directory that has no other.
func (l *layerReader) opaque(dir string, e *entry) error {
	if err := l.skipData(e); err != nil {
		return err
	}
	if err := l.tree.charge(0); err != nil || l.opts.Bottom {
		return err
	}
	d, why, err := l.tree.dir(dir)
	if err != nil {
		return err
	}
	if why != "" {
		return l.tar.bad(why)
	}
	d.state |= opaque
	if d.state&implied != 0 && d.stamp().before(stamp{e.sec, e.nsec}) {
		d.sec, d.nsec = e.sec, e.nsec
	}
	return nil
}

// junk drops AUFS' own files, but for those that hard links may name.
func (l *layerReader) junk(name string, e *entry) error {
	if err := l.tree.charge(len(name)); err != nil {
		return err
	}
	if !strings.HasPrefix(name, aufsLinks) || e.typ != typeReg {
		return l.skipData(e)
	}
	n, err := l.inode(e)
	if err != nil {
		return err
	}
	if l.aufs == nil {
		l.aufs = map[string]*inode{}
	}
	l.aufs[strings.Clone(name)] = n
	return nil
}
