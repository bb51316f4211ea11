package classic

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strings"
	"unicode/utf16"
)

// links is a link table.
type links struct {
	linkTable
	r     io.ReaderAt
	value int64 // the size of one
}

// links reads the head of a table that is at most limit bytes.
func (c *CIM) links(o offset, skip, limit, value int64) (*links, error) {
	l := &links{value: value}
	if err := c.read(o, skip, &l.linkTable); err != nil {
		return nil, err
	}
	if int64(l.Length) > limit || linkTableSize+int64(l.Count)*(value+4) > int64(l.Length) {
		return nil, damage("a table of %d names and %d bytes, in %d", l.Count, l.Length, limit)
	}
	r, err := c.section(o, skip, int64(l.Length))
	l.r = r
	return l, err
}

// children is the link table of a directory. One without a table is empty.
func (c *CIM) children(dir *file) (*links, error) {
	if dir.Default.size() == 0 {
		return &links{}, nil
	}
	return c.links(dir.Default.Data, 0, dir.Default.size(), 4)
}

// streams is the link table of a file's alternate streams. The format has it begin with its own
// length; Microsoft's reader looks for it behind another. No table can be taken for both: where
// one form has a length of some hundred bytes, the other has the number of names that fill it.
func (c *CIM) streams(f *file) (*links, error) {
	if f.Streams == 0 {
		return &links{}, nil
	}
	l, err := c.links(f.Streams, 0, math.MaxUint32, streamSize)
	if err == nil {
		return l, nil
	}
	if l, err := c.links(f.Streams, 4, math.MaxUint32, streamSize); err == nil {
		return l, nil
	}
	return nil, err
}

// maxTable is the longest table that is read as a whole: one of millions of names.
const maxTable = 256 << 20

// whole is l in memory.
func (l *links) whole() (*links, error) {
	if l.Length == 0 {
		return l, nil
	}
	if l.Length > maxTable {
		return nil, damage("a table of %d bytes", l.Length)
	}
	b, err := l.at(0, int64(l.Length))
	return &links{l.linkTable, bytes.NewReader(b), l.value}, err
}

// at reads n bytes of the table.
func (l *links) at(off, n int64) ([]byte, error) {
	if off+n > int64(l.Length) {
		return nil, damage("a name at %d of a table of %d bytes", off, l.Length)
	}
	b := make([]byte, n)
	if got, err := l.r.ReadAt(b, off); got < len(b) {
		return nil, err
	}
	return b, nil
}

// valueAt is the i-th value.
func (l *links) valueAt(i uint32) ([]byte, error) {
	return l.at(linkTableSize+int64(i)*l.value, l.value)
}

// name is the i-th.
func (l *links) name(i uint32) ([]uint16, error) {
	at, err := l.at(linkTableSize+int64(l.Count)*l.value+int64(i)*4, 4)
	if err != nil {
		return nil, err
	}
	off := int64(binary.LittleEndian.Uint32(at))
	length, err := l.at(off, 2)
	if err != nil {
		return nil, err
	}
	n := int64(binary.LittleEndian.Uint16(length))
	if n > maxName {
		return nil, damage("a name of %d characters", n)
	}
	b, err := l.at(off+2, 2*n)
	if err != nil {
		return nil, err
	}
	name := make([]uint16, n)
	for i := range name {
		name[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return name, nil
}

// find looks for a name in either case of its letters.
func (c *CIM) find(l *links, name string) (uint32, error) {
	want := c.fold([]rune(name))
	lo, hi := uint32(0), l.Count
	for lo < hi {
		i := lo + (hi-lo)/2
		at, err := l.name(i)
		if err != nil {
			return 0, err
		}
		switch slices.Compare(want, c.fold(utf16.Decode(at))) {
		case 0:
			return i, nil
		case -1:
			hi = i
		default:
			lo = i + 1
		}
	}
	return 0, fs.ErrNotExist
}

// fold is a name as tables are sorted by it. What is not in the Basic Multilingual Plane has no
// upper case, as in Microsoft's reader.
func (c *CIM) fold(name []rune) []rune {
	for i, r := range name {
		if int(r) < len(c.upcase) {
			name[i] = rune(c.upcase[r])
		}
	}
	return name
}

// text is a name that can be shown and looked for.
func text(name []uint16) (string, error) {
	s := string(utf16.Decode(name))
	if s == "" || !slices.Equal(utf16.Encode([]rune(s)), name) {
		return "", damage("a name %q, which is no UTF-16", s)
	}
	return s, nil
}

// fileName is a name that can be part of a path.
func fileName(name []uint16) (string, error) {
	s, err := text(name)
	if err == nil && (s == "." || s == ".." || strings.ContainsAny(s, "/\\:\x00")) {
		err = damage("a name %q, which Windows has not", s)
	}
	return s, err
}

// place is where a directory is: which link of which directory.
type place struct {
	dir  fileID
	link uint32
}

// enter refuses a directory that was come upon elsewhere: so there are no cycles, and no
// directory is walked through twice. It refuses more of directories than the regions can hold,
// too, as link tables may overlap.
func (c *CIM) enter(id fileID, dir *file, at place) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, ok := c.places[id]
	switch size := dir.Default.size(); {
	case ok && was != at:
		return damage("directory %d has two names", id)
	case !ok && size > c.size-c.listed:
		return damage("directories of more than the %d bytes there are", c.size)
	case !ok:
		c.places[id] = at
		c.listed += size
	}
	return nil
}

// countStreams refuses more tables of streams than the regions can hold: they may overlap, and each
// would be read for each file.
func (c *CIM) countStreams(id fileID, l *links) error {
	if l.Length == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streamed[id] {
		return nil
	}
	if int64(l.Length) > c.size-c.streamBytes {
		return damage("tables of streams of more than the %d bytes there are", c.size)
	}
	c.streamed[id] = true
	c.streamBytes += int64(l.Length)
	return nil
}

// link is the i-th file of a directory.
func (n *node) link(l *links, i uint32) (*node, error) {
	raw, err := l.name(i)
	if err != nil {
		return nil, err
	}
	name, err := fileName(raw)
	if err != nil {
		return nil, err
	}
	value, err := l.valueAt(i)
	if err != nil {
		return nil, err
	}
	id := fileID(binary.LittleEndian.Uint32(value))
	f, err := n.c.file(id)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if f.isDir() {
		err = n.c.enter(id, f, place{n.id, i})
	}
	return &node{f, n.c, id, name}, err
}
