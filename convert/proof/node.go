package proof

import (
	"crypto/sha256"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lithify/lithify/convert/tree"
)

// opaque is overlayfs's mark of a directory that hides what lies below.
const opaque = "trusted.overlay.opaque"

const whiteoutType = fs.ModeDevice | fs.ModeCharDevice

// node is a file. Hard links are one node under several names.
type node struct {
	typ      fs.FileMode // type bits
	mode     uint16      // 07777
	flags    flag
	uid, gid uint32
	rdev     uint32 // as Linux' new_encode_dev
	links    uint32 // names
	size     int64
	mtime    time.Time // zero: not known yet
	sum      [sha256.Size]byte
	*more
}

// more is what few nodes have.
type more struct {
	target string
	xattrs map[string]string
	kids   map[string]*node
	from   string // the target of a hard link into lower layers
	layer  int    // of a stack, that the node was last seen in
}

type flag uint8

const (
	implied flag = 1 << iota // a directory that the tar uses and does not list
	hides                    // an opaque directory
	fresh                    // a directory of which lower layers show nothing
)

func newDir() *node {
	return &node{typ: fs.ModeDir, mode: 0o755, flags: implied, more: &more{kids: map[string]*node{}}}
}

func (n *node) isDir() bool      { return n.typ == fs.ModeDir }
func (n *node) isWhiteout() bool { return n.typ == whiteoutType && n.rdev == 0 }
func (n *node) has(f flag) bool  { return n.flags&f != 0 }

// need makes room for what few nodes have.
func (n *node) need() *more {
	if n.more == nil {
		n.more = &more{}
	}
	return n.more
}

// attrs are the extended attributes; nil where there are none.
func (n *node) attrs() map[string]string {
	if n.more == nil {
		return nil
	}
	return n.xattrs
}

func (n *node) names() []string { return slices.Sorted(maps.Keys(n.kids)) }

// find gives the node of a clean name, "." being n, without following anything. hidden says
// that lower layers cannot have it either; it is nil where there is none.
func (n *node) find(name string) (found *node, hidden bool) {
	if name == "." {
		return n, false
	}
	for part := range strings.SplitSeq(name, "/") {
		if !n.isDir() {
			return nil, true
		}
		hidden = hidden || n.has(hides)
		if n = n.kids[part]; n == nil {
			return nil, hidden
		}
	}
	return n, false
}

// walk visits n and all below it, directories first.
func (n *node) walk(name string, visit func(name string, n *node) error) error {
	if err := visit(name, n); err != nil || !n.isDir() {
		return err
	}
	for _, base := range n.names() {
		if err := n.kids[base].walk(path.Join(name, base), visit); err != nil {
			return err
		}
	}
	return nil
}

// entry is the node as differences are told.
func (n *node) entry() tree.Entry {
	e := tree.Entry{
		Type: n.typ, Mode: n.mode, UID: n.uid, GID: n.gid, Size: n.size, Rdev: n.rdev, Nlink: uint64(n.links),
		Mtime: n.mtime.UTC(), Xattrs: n.attrs(),
	}
	if n.more != nil {
		e.Target = n.target
	}
	return e
}
