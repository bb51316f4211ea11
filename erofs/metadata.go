package erofs

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// metadata lays out the finished tree behind the file data: first the inodes,
// the children of a directory together and in order, each with its xattrs,
// chunk index and, where it fits into the rest of the block, the end of its
// directory entries or its target; then the blocks that did not fit.
type metadata struct {
	opts    Options
	bits    blockLog
	order   []*inode
	tails   *spill // of inlined files; nil: there are none
	base    uint32 // block at which the metadata begins
	needs   []string
	hides   bool // the lower layers' names in the root
	chunked bool
	ents    []dirent // scratch of list
	buf     []byte   // scratch of walk and write
	head    [inodeSize]byte
}

// walkDir is a directory on the way through the tree. Its path is put together
// for the few that are asked for: that of each would take more memory than the tree.
type walkDir struct {
	*inode
	name   string // in the directory above it
	up     int32  // where that is in the queue
	hidden bool   // nothing of it can be seen in lower layers
}

// appendPath appends the path of the directory at i in the queue.
func appendPath(b []byte, queue []walkDir, i int32) []byte {
	if d := queue[i]; d.up > 0 {
		return append(append(appendPath(b, queue, d.up), '/'), d.name...)
	}
	return append(b, queue[i].name...)
}

// walk visits every inode once, directories before what they hold, and counts
// links. It finds the directories that the tar did not list and that lower
// layers could show, and gives them the context's attributes.
func (m *metadata) walk(root *inode) error {
	root.parent = root
	if root.state&opaque != 0 && !m.opts.Bottom {
		if err := m.hideLower(root); err != nil {
			return err
		}
	}
	m.order = append(m.order, root)
	queue := []walkDir{{inode: root, name: "."}}
	for i := 0; i < len(queue); i++ {
		d := queue[i]
		if d.state&implied != 0 && !d.hidden {
			m.buf = appendPath(m.buf[:0], queue, int32(i))
			if err := m.ask(d.inode, string(m.buf)); err != nil {
				return err
			}
		}
		d.seal(m.opts.Bottom)
		d.nlink = 2
		for _, k := range d.kids {
			if k.isDir() {
				d.nlink++
				queue = append(queue, walkDir{k.inode, k.name, int32(i), d.hidden || d.state&opaque != 0 || k.state&fresh != 0})
			} else {
				k.nlink++
			}
			if k.state&placed == 0 {
				k.state |= placed
				m.order = append(m.order, k.inode)
			}
		}
	}
	slices.Sort(m.needs)
	m.inheritTimes()
	return nil
}

// hideLower does what an opaque mark in the root asks for. overlayfs does not look
// at a root's attributes, so each name that the lower layers have there becomes a
// whiteout, or an opaque directory where this layer has one.
func (m *metadata) hideLower(root *inode) error {
	m.hides = true
	root.state &^= opaque
	for _, k := range root.kids {
		if k.isDir() {
			k.state |= opaque | fresh
		}
	}
	if m.nameless() {
		return nil
	}
	for _, name := range m.opts.Context.RootNames {
		if clean, why := cleanName(name, maxName); why != "" || clean != name || strings.Contains(name, "/") {
			return fmt.Errorf("the context's %q is no name in a root", name)
		}
		if root.find(name) < 0 {
			root.add(dirent{name, &inode{mode: sIFCHR}})
		}
	}
	return nil
}

// nameless reports whether the names to be hidden are missing.
func (m *metadata) nameless() bool {
	return m.hides && (m.opts.Context == nil || m.opts.Context.RootNames == nil)
}

// ask notes a directory that the layers below know and gives it the attributes
// that the context has for it.
func (m *metadata) ask(n *inode, name string) error {
	m.needs = append(m.needs, name)
	if m.opts.Context == nil {
		return nil
	}
	a, ok := m.opts.Context.Dirs[name]
	if !ok {
		return nil
	}
	n.mode = sIFDIR | a.Mode&0o7777
	n.uid, n.gid = a.UID, a.GID
	return n.setXattrs(a.Xattrs)
}

// seal sorts a directory and forgets what only building it needed.
func (n *inode) seal(bottom bool) {
	n.index = nil
	slices.SortFunc(n.kids, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
	if n.state&opaque != 0 && !bottom {
		n.merge([]xattr{opaqueMark})
	}
}

// stamp is a time of last modification.
type stamp struct {
	sec  int64
	nsec uint32
}

func (s stamp) before(t stamp) bool { return s.sec < t.sec || s.sec == t.sec && s.nsec < t.nsec }

// inheritTimes gives directories that the tar did not list the newest time of
// what lies below them.
func (m *metadata) inheritTimes() {
	newest := make(map[*inode]stamp) // of a directory and all below it
	for _, n := range slices.Backward(m.order) {
		if !n.isDir() {
			continue
		}
		top := n.stamp()
		for _, k := range n.kids {
			t := k.stamp()
			if k.isDir() {
				t = newest[k.inode]
				delete(newest, k.inode)
			}
			if top.before(t) {
				top = t
			}
		}
		if n.state&implied != 0 {
			n.sec, n.nsec = top.sec, top.nsec
			if n.sec == math.MinInt64 {
				n.sec = 0
			}
		}
		newest[n] = top
	}
}

func (n *inode) stamp() stamp { return stamp{n.sec, n.nsec} }

// place gives every inode its address and every overflow its blocks. end is the block
// after them.
func (m *metadata) place() (end uint32, err error) {
	off := int64(rootNID * nidUnit)
	if m.tails != nil {
		off = newPacker(m).placeAll()
	} else {
		for _, n := range m.order {
			if off = m.placeInode(n, off); off > maxMetadata {
				break
			}
		}
	}
	if off > maxMetadata {
		return 0, errMetadataTooLarge
	}
	next := int64(m.base) + m.bits.up(off)>>m.bits
	for _, n := range m.order {
		if over := n.overflow(); over > 0 {
			n.extra = uint32(next)
			next += m.bits.up(over) >> m.bits
		}
	}
	switch {
	case (next-int64(m.base))<<m.bits > maxMetadata:
		return 0, errMetadataTooLarge
	case next > math.MaxUint32:
		return 0, errImageTooLarge
	}
	return uint32(next), nil
}

// mapOutside gives the files of the device, which are placed as if it were alone, the addresses
// they have where it begins at that block of the image's.
func (m *metadata) mapOutside(at uint32) {
	for _, n := range m.order {
		if n.state&outside != 0 {
			n.data += at
		}
	}
}

// placeInode puts an inode at off or as little behind it as the format allows,
// and gives the end of it.
func (m *metadata) placeInode(n *inode, off int64) int64 {
	head, block := n.head(), m.bits.size()
	if n.isDir() {
		n.size = dirSize(m.list(n), int(block))
	}
	tail := n.wantsTail(block)
	off = align(off, nidUnit)
	if off%block+inodeSize > block {
		off = align(off, block)
	}
	// Kernels to 6.10 or so look for a symbolic link's target in the inode's own
	// block; the same rule for directories costs next to nothing. The root stays where
	// the superblock says it is.
	if off%block+head+tail > block && tail > 0 {
		if head+tail <= block && off > rootNID*nidUnit {
			off = align(off, block)
		} else {
			tail = 0
		}
	}
	if tail > 0 && n.state&inlined == 0 {
		n.tail = uint16(tail)
	}
	n.nid = uint32(off / nidUnit)
	m.chunked = m.chunked || n.chunkBits > 0
	return off + head + tail
}

// head is the size of an inode with its xattrs and chunk index.
func (n *inode) head() int64 {
	head := int64(inodeSize + n.xattrBody())
	if n.chunkBits > 0 {
		head = align(head, chunkIndexSize) + n.chunks()*chunkIndexSize
	}
	return head
}

func (n *inode) chunks() int64 { return (n.size-1)>>n.chunkBits + 1 }

// wantsTail is how many bytes would lie behind the inode if there is room.
func (n *inode) wantsTail(block int64) int64 {
	switch n.mode & sIFMT {
	case sIFDIR:
		return n.size % block
	case sIFLNK:
		return n.size
	}
	if n.state&inlined != 0 {
		return n.size % block
	}
	return 0
}

// overflow is how many bytes of a directory or target lie in blocks of their own.
func (n *inode) overflow() int64 {
	switch n.mode & sIFMT {
	case sIFDIR, sIFLNK:
		return n.size - int64(n.tail)
	}
	return 0
}

// list gives the entries of a directory in order, "." and ".." among them. It
// is valid until the next call.
func (m *metadata) list(d *inode) []dirent {
	m.ents = append(m.ents[:0], d.kids...)
	for _, dot := range []dirent{{".", d}, {"..", d.parent}} {
		i, _ := slices.BinarySearchFunc(m.ents, dot.name, func(e dirent, name string) int { return strings.Compare(e.name, name) })
		m.ents = slices.Insert(m.ents, i, dot)
	}
	return m.ents
}
