package erofs

import (
	"math/bits"
	"slices"
)

// Chunk-based inodes, for sparse files: the file is cut into chunks of a power
// of two, each stored whole somewhere or not at all (erofs_fs.h,
// erofs_inode_chunk_index; Linux 5.15).
const (
	chunkIndexSize   = 8
	chunkIndexFormat = 0x20 // EROFS_CHUNK_FORMAT_INDEXES
	maxChunkShift    = 31   // of a chunk's size in blocks, as log2
	// flatBytes is up to where zeros are cheaper than another layout.
	flatBytes = 64 << 10
)

// chunked makes n a file of chunks of that many bits where ext holds data, or leaves it
// flat for 0 bits. Its index counts, too, which is not held here but by everybody who
// looks into the image's metadata.
func (t *tree) chunked(n *inode, ext []extent, bits int) error {
	if bits == 0 {
		return nil
	}
	n.chunkBits = uint8(bits)
	n.need().runs = touched(ext, bits)
	t.count += int64(len(n.runs))
	t.held += n.chunks() * chunkIndexSize
	return t.charge(len(n.runs) * extentHeld)
}

// extentHeld is what an extent takes in memory.
const extentHeld = 16

// stored is how many bytes of an image a regular file takes, whole blocks but for the
// last.
func (n *inode) stored() (sum int64) {
	if n.chunkBits == 0 {
		return n.size
	}
	for _, run := range n.runs {
		sum += min(run.end(), n.size) - run.off
	}
	return sum
}

// sparse appends the chunks of a sparse file that hold data, or all of one that is flat.
// data appends the next k bytes of what the extents hold.
func (o *output) sparse(n *inode, ext []extent, data func(k int64) error) error {
	if n.chunkBits == 0 {
		if err := o.fill(ext, 0, n.size, data); err != nil {
			return err
		}
		return o.pad()
	}
	for _, run := range n.runs {
		end := min(run.end(), n.size)
		k := 0
		for k < len(ext) && ext[k].off < end {
			k++
		}
		if err := o.fill(ext[:k], run.off, end, data); err != nil {
			return err
		}
		ext = ext[k:]
		if err := o.pad(); err != nil {
			return err
		}
	}
	return nil
}

// fill writes the bytes from off to end of a sparse file, of which the extents
// hold data.
func (o *output) fill(ext []extent, off, end int64, data func(k int64) error) error {
	for _, x := range ext {
		if err := o.zeros(x.off - off); err != nil {
			return err
		}
		if err := data(x.size); err != nil {
			return err
		}
		off = x.end()
	}
	return o.zeros(end - off)
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
// the fewest bytes, or 0 where a flat file takes no more, and those bytes.
func cheapestChunk(ext []extent, size int64, block blockLog) (best int, least int64) {
	if size <= flatBytes {
		return 0, size
	}
	least = size
	for b := int(block); b <= largestChunk(size, block); b++ {
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
	return best, least
}

// largestChunk is up to where a file of that size gains by larger chunks, as log2.
func largestChunk(size int64, block blockLog) int {
	return min(int(block)+maxChunkShift, bits.Len64(uint64(size)))
}

// mappedChunk gives the largest chunk size, as log2, with which a file's data can stay
// where it lies in one piece, at a block border: each chunk is data or none of it. It is
// 0 where there is none. whole says that there are no holes at all.
func mappedChunk(ext []extent, size int64, block blockLog) (_ int, whole bool) {
	if len(ext) == 1 && ext[0].size == size {
		return 0, true
	}
	for b := largestChunk(size, block); b >= int(block); b-- {
		if !slices.ContainsFunc(ext, func(x extent) bool { return x.off&(1<<b-1) != 0 || x.size&(1<<b-1) != 0 && x.end() < size }) {
			return b, false
		}
	}
	return 0, false
}

// joined gives the extents with those that touch made one.
func joined(ext []extent) []extent {
	var out []extent
	for _, x := range ext {
		if k := len(out) - 1; k >= 0 && out[k].end() == x.off {
			out[k].size += x.size
			continue
		}
		out = append(out, x)
	}
	return out
}
