package erofs

import (
	"encoding/binary"
	"math"
	"slices"
)

// Directory blocks: as many struct erofs_dirent as fit with their names, then
// the names. The first entry's name offset tells how many there are.

// fitBlock gives how many of the entries go into the next block, and the bytes
// they take.
func fitBlock(list []dirent, block int) (n, size int) {
	for _, e := range list {
		k := direntSize + len(e.name)
		if size+k > block {
			break
		}
		size += k
		n++
	}
	return n, size
}

// dirSize is the size of a directory in bytes: its last block is not filled up.
func dirSize(list []dirent, block int) (size int64) {
	for len(list) > 0 {
		n, used := fitBlock(list, block)
		list = list[n:]
		if len(list) > 0 {
			used = block
		}
		size += int64(used)
	}
	return size
}

// appendDir encodes a directory.
func appendDir(b []byte, list []dirent, block int) []byte {
	for len(list) > 0 {
		n, used := fitBlock(list, block)
		b = appendDirBlock(b, list[:n])
		if list = list[n:]; len(list) > 0 {
			b = append(b, make([]byte, block-used)...)
		}
	}
	return b
}

func appendDirBlock(b []byte, list []dirent) []byte {
	name := direntSize * len(list)
	for _, e := range list {
		b = binary.LittleEndian.AppendUint64(b, uint64(e.nid))
		b = binary.LittleEndian.AppendUint16(b, uint16(name))
		b = append(b, fileTypes[e.mode&sIFMT], 0)
		name += len(e.name)
	}
	for _, e := range list {
		b = append(b, e.name...)
	}
	return b
}

// write sends the metadata to the image, which stands at m.base.
func (m *metadata) write(out *output) error {
	start := out.pos
	for i, n := range m.order {
		if err := out.zeros(start + int64(n.nid)*nidUnit - out.pos); err != nil {
			return err
		}
		if err := m.writeInode(out, n, uint32(i+1)); err != nil {
			return err
		}
	}
	if err := out.pad(); err != nil {
		return err
	}
	for _, n := range m.order {
		over := n.overflow()
		if over == 0 {
			continue
		}
		if _, err := out.Write(m.contents(n)[:over]); err != nil {
			return err
		}
		if err := out.pad(); err != nil {
			return err
		}
	}
	return nil
}

// contents encodes a directory's entries or gives a link's target, until the
// next call.
func (m *metadata) contents(n *inode) []byte {
	if n.isDir() {
		m.buf = appendDir(m.buf[:0], m.list(n), int(m.bits.size()))
	} else {
		m.buf = append(m.buf[:0], n.target...)
	}
	return m.buf
}

func (m *metadata) writeInode(out *output, n *inode, number uint32) error {
	tail := n.state&inlined != 0 || n.more != nil && n.tail > 0
	if _, err := out.Write(n.appendInode(m.head[:0], m.bits, tail, number)); err != nil {
		return err
	}
	if attrs := n.attrs(); len(attrs) > 0 {
		m.buf = appendXattrs(m.buf[:0], attrs)
		if _, err := out.Write(m.buf); err != nil {
			return err
		}
	}
	if n.chunkBits > 0 {
		return n.writeChunks(out)
	}
	switch {
	case !tail:
		return nil
	case n.state&inlined != 0:
		return m.writeTail(out, n)
	}
	_, err := out.Write(m.contents(n)[n.overflow():])
	return err
}

// writeTail writes the end of an inlined file.
func (m *metadata) writeTail(out *output, n *inode) error {
	m.buf = slices.Grow(m.buf[:0], int(m.bits.size()))[:n.size%m.bits.size()]
	if _, err := m.tails.ReadAt(m.buf, int64(n.extra)); err != nil {
		return err
	}
	_, err := out.Write(m.buf)
	return err
}

// noBlock is the address of a hole (EROFS_NULL_ADDR).
const noBlock = math.MaxUint32

// writeChunks writes the chunk index of a sparse file: for each chunk the high
// half of the block, the device, and the low half.
func (n *inode) writeChunks(out *output) error {
	if err := out.zeros(-out.pos & (chunkIndexSize - 1)); err != nil {
		return err
	}
	block := n.data
	at := int64(0)
	for _, run := range n.runs {
		if err := writeIndex(out, (run.off-at)>>n.chunkBits, noBlock, 0); err != nil {
			return err
		}
		if err := writeIndex(out, run.size>>n.chunkBits, block, uint32(1)<<(n.chunkBits-uint8(out.bits))); err != nil {
			return err
		}
		at = run.end()
		block += uint32(out.bits.up(min(at, n.size)-run.off) >> out.bits)
	}
	return writeIndex(out, n.chunks()-at>>n.chunkBits, noBlock, 0)
}

// writeIndex writes count entries, each step blocks behind the one before.
func writeIndex(out *output, count int64, block, step uint32) error {
	for ; count > 0; count-- {
		var b [chunkIndexSize]byte
		binary.LittleEndian.PutUint32(b[4:], block)
		if _, err := out.Write(b[:]); err != nil {
			return err
		}
		block += step
	}
	return nil
}
