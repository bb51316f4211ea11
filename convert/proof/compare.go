package proof

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"

	goerofs "github.com/erofs/go-erofs"
	"github.com/lithify/lithify/convert/tree"
	"github.com/lithify/lithify/erofs"
)

// maxDifferences is how many are told; one is enough.
const maxDifferences = 100

// DifferError says how an image is not what its tar is.
type DifferError struct {
	Differences []tree.Difference // the first of them
}

func (e *DifferError) Error() string {
	return fmt.Sprintf("the image is not what its tar says: %d differences, the first: %s", len(e.Differences), e.Differences[0])
}

// Compare reads a finished image and compares it with the tar, which has been read. lower is
// what the layers below said when it was made; nil: nothing. heard, if not nil, is called with
// how many bytes of contents have been read since it was called last.
//
// An image that differs, or that cannot be read, is a *DifferError.
func (t *Tar) Compare(ctx context.Context, image io.ReaderAt, lower *erofs.Context, heard func(n int64)) (err error) {
	if err := t.settle(lower); err != nil {
		return err
	}
	c := &comparison{ctx: ctx, image: image, heard: heard, inodes: map[int64]*node{}, buf: make([]byte, 1<<20)}
	defer func() {
		if v := recover(); v != nil { // go-erofs is not made for images from anybody
			err = &DifferError{[]tree.Difference{{Path: ".", Attr: "image", Got: fmt.Sprintf("damaged: %v", v), Want: "readable"}}}
		}
	}()
	if err := c.run(t.root); err != nil {
		return err
	}
	if len(c.list) > 0 {
		return &DifferError{c.list}
	}
	return nil
}

// Needs are what the tar leaves to the layers below, after Compare.
func (t *Tar) Needs() Needs { return t.needs }

// comparison is one of an image with a tree of nodes.
type comparison struct {
	ctx    context.Context
	image  io.ReaderAt
	fsys   fs.ReadLinkFS
	heard  func(int64)
	list   []tree.Difference
	inodes map[int64]*node // by number, of all but directories
	files  []content       // to be read, once the tree is known to be right
	buf    []byte
}

// content is where one regular file's bytes are.
type content struct {
	path   string
	node   *node
	ranges []goerofs.DataRange
}

func (c *comparison) run(root *node) (err error) {
	if c.fsys, err = erofs.Open(c.image); err != nil {
		return c.unreadable(".", err)
	}
	info, err := c.fsys.Lstat(".")
	if err != nil {
		return c.unreadable(".", err)
	}
	c.entry(".", root, info)
	if err := c.dir(".", root); err != nil {
		return err
	}
	slices.SortFunc(c.files, func(a, b content) int { return int(min(max(a.at()-b.at(), -1), 1)) })
	for _, f := range c.files {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if len(c.list) >= maxDifferences {
			break
		}
		if err := c.content(f); err != nil {
			return err
		}
	}
	return nil
}

// unreadable is a difference where the image is damaged, and an error where it cannot be read
// for another reason: of a disk, or that the caller gave up.
func (c *comparison) unreadable(name string, err error) error {
	if ctxErr := c.ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	if errors.As(err, new(syscall.Errno)) {
		return fmt.Errorf("read %s of the image back: %w", name, err)
	}
	c.differ(name, "image", err.Error(), "readable")
	return nil
}

func (c *comparison) differ(name, attr, got, want string) {
	if len(c.list) < maxDifferences {
		c.list = append(c.list, tree.Difference{Path: name, Attr: attr, Got: got, Want: want})
	}
}

// dir compares what a directory holds.
func (c *comparison) dir(name string, d *node) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	list, err := c.names(name)
	if err != nil {
		return c.unreadable(name, err)
	}
	seen := 0
	for i, e := range list {
		at := path.Join(name, e.Name())
		if i > 0 && list[i-1].Name() >= e.Name() {
			c.differ(at, "place", "not in order, or twice", "in order")
		}
		k := d.kids[e.Name()]
		if k == nil {
			c.differ(at, "file", "there", "none")
			continue
		}
		seen++
		info, err := e.Info()
		if err != nil {
			if err := c.unreadable(at, err); err != nil {
				return err
			}
			continue
		}
		if !c.entry(at, k, info) || !k.isDir() {
			continue
		}
		if err := c.dir(at, k); err != nil {
			return err
		}
	}
	if seen < len(d.kids) {
		c.missing(name, d, list)
	}
	return nil
}

// names lists a directory in the order in which the image has it.
func (c *comparison) names(name string) (list []fs.DirEntry, err error) {
	f, err := c.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d, ok := f.(fs.ReadDirFile)
	if !ok {
		return nil, errors.New("no directory")
	}
	return d.ReadDir(-1)
}

func (c *comparison) missing(name string, d *node, list []fs.DirEntry) {
	have := map[string]bool{}
	for _, e := range list {
		have[e.Name()] = true
	}
	for _, base := range d.names() {
		if !have[base] {
			c.differ(path.Join(name, base), "file", "none", "there")
		}
	}
}

// entry compares a file's inode and notes its content. It reports whether the types agree.
func (c *comparison) entry(name string, want *node, info fs.FileInfo) bool {
	st, ok := info.Sys().(*goerofs.Stat)
	if !ok {
		c.differ(name, "image", "no file of EROFS", "one")
		return false
	}
	if named := info.Mode().Type(); named != st.Mode.Type() {
		c.differ(name, "type", fmt.Sprintf("%v in its directory, %v in its inode", named, st.Mode.Type()), want.typ.String())
	}
	if !want.isDir() {
		if other := c.inodes[st.Ino]; other != nil && other != want {
			c.differ(name, "inode", "that of another file", "its own")
		} else if other == nil {
			c.inodes[st.Ino] = want
			c.attributes(name, want, info, st)
			return st.Mode.Type() == want.typ
		}
		return true // another name of the same
	}
	c.attributes(name, want, info, st)
	return st.Mode.Type() == want.typ
}

func (c *comparison) attributes(name string, want *node, info fs.FileInfo, st *goerofs.Stat) {
	attr, err := erofs.AttrOf(info)
	if err != nil {
		c.differ(name, "image", err.Error(), "readable")
		return
	}
	got := node{
		typ: st.Mode.Type(), mode: attr.Mode, uid: attr.UID, gid: attr.GID, links: uint32(st.Nlink), mtime: info.ModTime(),
		more: &more{xattrs: attr.Xattrs},
	}
	switch {
	case got.typ == 0:
		got.size = st.Size
		if st.Size == want.size && want.typ == 0 {
			c.note(name, want, info)
		}
	case got.typ == fs.ModeSymlink:
		got.size = st.Size
		if got.target, err = c.fsys.ReadLink(name); err != nil {
			c.differ(name, "target", err.Error(), want.entry().Target)
			return
		}
	case got.typ&fs.ModeDevice != 0:
		got.rdev = st.Rdev
	}
	if got.is(want) {
		return
	}
	for _, d := range tree.Diff(tree.Tree{name: got.entry()}, tree.Tree{name: want.entry()}) {
		c.differ(d.Path, d.Attr, d.Got, d.Want)
	}
}

// is reports whether two nodes have the same attributes.
func (n *node) is(m *node) bool {
	same := n.typ == m.typ && n.mode == m.mode && n.uid == m.uid && n.gid == m.gid && n.rdev == m.rdev &&
		n.links == m.links && n.size == m.size && n.mtime.Equal(m.mtime) && maps.Equal(n.attrs(), m.attrs())
	return same && n.entry().Target == m.entry().Target
}

// note keeps where a file's bytes are.
func (c *comparison) note(name string, want *node, info fs.FileInfo) {
	f := content{path: strings.Clone(name), node: want}
	if r, ok := info.(interface{ DataRange() []goerofs.DataRange }); ok {
		f.ranges = r.DataRange()
	}
	c.files = append(c.files, f)
}

// at is where the first byte lies in the image.
func (f content) at() int64 {
	for _, r := range f.ranges {
		if r.Offset >= 0 {
			return r.Offset
		}
	}
	return 0
}

func (c *comparison) content(f content) error {
	h := sha256.New()
	var size int64
	if f.ranges == nil && f.node.size > 0 { // a chunk index that is too large for go-erofs to give it whole
		r, err := c.fsys.Open(f.path)
		if err == nil {
			size, err = io.CopyBuffer(h, struct{ io.Reader }{r}, c.buf)
			err = errors.Join(err, r.Close())
		}
		if err != nil {
			return c.unreadable(f.path, err)
		}
	}
	for _, r := range f.ranges {
		if r.Device != 0 {
			c.differ(f.path, "sha256", "in another device", "in the image")
			return nil
		}
		n, err := c.copy(h, r)
		if err != nil {
			return c.unreadable(f.path, err)
		}
		size += n
	}
	if size != f.node.size {
		c.differ(f.path, "size", fmt.Sprintf("%d bytes by its blocks", size), fmt.Sprint(f.node.size))
		return nil
	}
	if got := [sha256.Size]byte(h.Sum(nil)); got != f.node.sum {
		c.differ(f.path, "sha256", fmt.Sprintf("%x", got), fmt.Sprintf("%x", f.node.sum))
	}
	return nil
}

// zeros are what a hole holds.
var zeros [64 << 10]byte

// copy writes a stretch of a file to w, which does not fail.
func (c *comparison) copy(w io.Writer, r goerofs.DataRange) (n int64, err error) {
	for n < r.Size {
		if err := c.ctx.Err(); err != nil {
			return n, err
		}
		p := c.buf[:min(int64(len(c.buf)), r.Size-n)]
		if r.Offset < 0 {
			p = zeros[:min(int64(len(zeros)), r.Size-n)]
		} else if _, err := io.ReadFull(io.NewSectionReader(c.image, r.Offset+n, int64(len(p))), p); err != nil {
			return n, err
		}
		w.Write(p)
		n += int64(len(p))
		if c.heard != nil {
			c.heard(int64(len(p)))
		}
	}
	return n, nil
}
