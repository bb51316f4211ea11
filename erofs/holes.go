package erofs

import "math/bits"

// Chunk-based inodes, for sparse files: the file is cut into chunks of a power
// of two, each stored whole somewhere or not at all (erofs_fs.h,
// erofs_inode_chunk_index; Linux 5.15).
const (
	chunkIndexSize   = 8
	chunkIndexFormat = 0x20 // EROFS_CHUNK_FORMAT_INDEXES
	maxChunkShift    = 31 // of a chunk's size in blocks, as log2
	// flatBytes is up to where zeros are cheaper than another layout.
	flatBytes = 64 << 10
)

// sparse sends a sparse file's extents to the image, holes left out where that
// takes less room.
func (l *layerReader) sparse(n *inode, e *entry) error {
	chunkBits := cheapestChunk(e.extents, e.size, l.out.bits)
	if chunkBits == 0 {
		return l.sparseFlat(n, e)
	}
	n.chunkBits = uint8(chunkBits)
	runs := touched(e.extents, chunkBits)
	if err := l.chargeChunks(n, len(runs)); err != nil {
		return err
	}
	n.need().runs = runs
	n.data = l.out.block()
	ext := e.extents
	for _, run := range runs {
		end := min(run.end(), e.size)
		k := 0
		for k < len(ext) && ext[k].off < end {
			k++
		}
		if err := l.fill(ext[:k], run.off, end); err != nil {
			return err
		}
		ext = ext[k:]
		if err := l.out.pad(); err != nil {
			return err
		}
	}
	return nil
}

// chargeChunks counts a sparse file's index, too, which is not held here but by
// everybody who looks into the image's metadata.
func (l *layerReader) chargeChunks(n *inode, runs int) error {
	const size = 16
	l.tree.count += int64(runs)
	l.tree.held += n.chunks() * chunkIndexSize
	return l.tree.charge(runs * size)
}

// sparseFlat writes the holes of a small file as zeros.
func (l *layerReader) sparseFlat(n *inode, e *entry) error {
	if e.size == 0 {
		return nil
	}
	n.data = l.out.block()
	if err := l.fill(e.extents, 0, e.size); err != nil {
		return err
	}
	return l.out.pad()
}

// fill writes the bytes from off to end of a sparse file, of which the extents
// hold data.
func (l *layerReader) fill(ext []extent, off, end int64) error {
	for _, x := range ext {
		if err := l.out.zeros(x.off - off); err != nil {
			return err
		}
		if err := l.tar.in.data(x.size, l.out.write); err != nil {
			return err
		}
		off = x.end()
	}
	return l.out.zeros(end - off)
}

// touched gives the stretches of chunks that hold data, in order and apart.
func touched(ext []extent, chunkBits int) []extent {
	var runs []extent
	for _, x := range ext {
		from := x.off >> chunkBits << chunkBits
		to := ((x.end()-1)>>chunkBits + 1) << chunkBits
		if k := len(runs) - 1; k >= 0 && from <= runs[k].end() {
			runs[k].size = max(runs[k].end(), to) - runs[k].off
			continue
		}
		runs = append(runs, extent{from, to - from})
	}
	return runs
}

// cheapestChunk gives the chunk size, as log2, with which data and index take
// the fewest bytes, or 0 where a flat file takes no more.
func cheapestChunk(ext []extent, size int64, block blockLog) int {
	if size <= flatBytes {
		return 0
	}
	best, least := 0, size
	for b := int(block); b <= min(int(block)+maxChunkShift, bits.Len64(uint64(size))); b++ {
		cost := ((size-1)>>b + 1) * chunkIndexSize
		var end int64
		for _, x := range ext {
			from := max(x.off>>b<<b, end)
			end = ((x.end()-1)>>b + 1) << b
			cost += max(0, end-from)
		}
		if cost < least {
			best, least = b, cost
		}
	}
	return best
}
