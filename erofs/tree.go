package erofs

import (
	"math"
	"slices"
	"strings"
)

// File types and permission bits, as in stat(2).
const (
	sIFMT   = 0o170000
	sIFSOCK = 0o140000
	sIFLNK  = 0o120000
	sIFREG  = 0o100000
	sIFBLK  = 0o060000
	sIFDIR  = 0o040000
	sIFCHR  = 0o020000
	sIFIFO  = 0o010000
)

// inode is a file of the image. There is one for each, so it is kept small:
// what few files have is behind more.
type inode struct {
	mode      uint16
	state     state
	chunkBits uint8 // of a chunk-based file, log2 of bytes; 0 for a flat one
	nsec      uint32
	uid, gid  uint32
	nlink     uint32 // counted when the tree is complete
	data      uint32 // first block of contents, or device number
	nid       uint32 // place in the metadata, in units of 32 bytes
	// extra is the first block of what of a directory or target does not lie behind the
	// inode; of an inlined file where what lies there is in the spill.
	extra uint32
	sec   int64
	size  int64
	*more
}

type state uint8

const (
	implied state = 1 << iota // a directory the tar did not list
	opaque                    // hides what lower layers have in it
	fresh                     // an opaque directory that also has a new inode
	placed
	inlined // a file whose last bytes, of less than a block, lie behind the inode
	outside // a file whose blocks are those of the device: see ProfileIndex
)

// more is what directories, symbolic links, sparse files and files with xattrs have.
type more struct {
	kids   []dirent
	index  map[string]int32 // of kids by name, once there are many
	parent *inode
	target string
	xattrs []xattr // in the format's order; merge adds to them
	// xattrSize is what they take behind the inode, in bytes.
	xattrSize int32
	tail      uint16   // bytes of entries or target behind the inode
	runs      []extent // of a sparse file: chunks that hold data
}

type dirent struct {
	name string
	*inode
}

func (n *inode) isDir() bool { return n.mode&sIFMT == sIFDIR }

// isWhiteout: overlayfs takes every character device 0:0 for one.
func (n *inode) isWhiteout() bool { return n.mode&sIFMT == sIFCHR && n.data == 0 }

func (n *inode) kind() string {
	switch n.mode & sIFMT {
	case sIFDIR:
		return "a directory"
	case sIFLNK:
		return "a symbolic link"
	case sIFREG:
		return "a file"
	}
	return "a special file"
}

// manyKids is where a map beats looking at every name.
const manyKids = 12

func (m *more) find(name string) int {
	if m.index != nil {
		if i, ok := m.index[name]; ok {
			return int(i)
		}
		return -1
	}
	return slices.IndexFunc(m.kids, func(d dirent) bool { return d.name == name })
}

func (m *more) add(d dirent) {
	m.kids = append(m.kids, d)
	switch {
	case m.index != nil:
		m.index[d.name] = int32(len(m.kids) - 1)
	case len(m.kids) > manyKids:
		m.index = make(map[string]int32, 2*manyKids)
		for i, k := range m.kids {
			m.index[k.name] = int32(i)
		}
	}
}

// tree is the layer as far as it has been read.
type tree struct {
	root   *inode
	limits Limits
	count  int64 // against limits.Entries
	held   int64 // against limits.MetaBytes
	last   *inode
	lastAt string // the name of last
}

func newTree(l Limits) *tree {
	t := &tree{limits: l, root: newDir(nil)}
	t.last = t.root
	return t
}

func newDir(parent *inode) *inode {
	return &inode{mode: sIFDIR | DefaultDirMode, state: implied, sec: math.MinInt64, more: &more{parent: parent}}
}

// charge counts one entry and n bytes that stay in memory.
func (t *tree) charge(n int) error {
	t.count++
	if t.held += int64(n); t.held > t.limits.MetaBytes {
		return t.limits.metaError()
	}
	if t.count > t.limits.Entries {
		return t.limits.entriesError()
	}
	return nil
}

// dir gives the directory of a clean name and makes it and its parents where
// the tar has not listed them. why is set if something else is in the way.
func (t *tree) dir(name string) (_ *inode, why string, err error) {
	if name == "" {
		return t.root, "", nil
	}
	if name == t.lastAt {
		return t.last, "", nil
	}
	at, end := t.root, -1
	for part := range strings.SplitSeq(name, "/") {
		end += 1 + len(part)
		i := at.find(part)
		if i >= 0 && at.kids[i].isDir() {
			at = at.kids[i].inode
			continue
		}
		if i >= 0 && !at.kids[i].isWhiteout() {
			return nil, "it lies below " + part + ", which is " + at.kids[i].kind() + " of this layer; name it by its resolved path", nil
		}
		d := newDir(at)
		// All of its path is held if the layers below are asked about it.
		if err := t.charge(end); err != nil {
			return nil, "", err
		}
		if why := t.put(at, strings.Clone(part), d); why != "" {
			return nil, why, nil
		}
		at = d
	}
	t.last, t.lastAt = at, name
	return at, "", nil
}

// find gives the inode of a clean name. blocked is what is in the way on the
// road to it, if that is not a directory. hidden says that lower layers cannot
// have it either.
func (t *tree) find(name string) (found, blocked *inode, hidden bool) {
	at := t.root
	for part := range strings.SplitSeq(name, "/") {
		if !at.isDir() {
			return nil, at, false
		}
		hidden = hidden || at.state&opaque != 0
		i := at.more.find(part)
		if i < 0 {
			return nil, nil, hidden
		}
		at = at.kids[i].inode
	}
	return at, nil, hidden
}

// put names n in a directory. What had the name goes, with all below it, but
// for two cases: a directory stays and takes the attributes of the other, and a
// name beats its whiteout, which then only hides what lies below. why is set for
// what cannot be.
func (t *tree) put(dir *inode, name string, n *inode) (why string) {
	i := dir.more.find(name)
	if i < 0 {
		dir.add(dirent{name, n})
		return ""
	}
	old := dir.kids[i].inode
	switch {
	case n.isWhiteout() && old.isDir():
		old.state |= opaque | fresh
	case n.isWhiteout() && !old.isWhiteout():
	case n.isDir() && old.isDir():
		return old.become(n)
	default:
		if n.isDir() {
			n.state |= opaque | fresh
		}
		dir.kids[i].inode = n
		t.last, t.lastAt = t.root, ""
	}
	return ""
}

// become gives a directory the attributes of another entry of the same name.
func (n *inode) become(d *inode) (why string) {
	n.mode, n.uid, n.gid, n.sec, n.nsec = d.mode, d.uid, d.gid, d.sec, d.nsec
	n.state &^= implied
	if n.merge(d.xattrs); int(n.xattrSize) > maxXattrs {
		return tooManyXattrs
	}
	return ""
}
