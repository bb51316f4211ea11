package erofs

import "io"

// layout is where the contents of files lie in an image.
type layout interface {
	// file places a regular file, whose e.stored bytes are next in the tar, and reads
	// those.
	file(n *inode, e *entry) error
	// lower places n.size bytes of a lower layer, which write writes, now or later.
	lower(n *inode, write func(io.Writer) error) error
	// behind places what comes after the metadata, from block on, and gives the block
	// after it. Where it was put is in the inodes when it returns.
	behind(block uint32) (end int64)
	// finish writes that. The output stands at the block that behind was told.
	finish() error
	// close gives up what placing took. It must be called.
	close() error
}

// gathered is the layout of 4 KiB blocks: contents in the order of the tar, each from
// a block border on.
type gathered struct {
	in    *input
	out   *output
	tree  *tree
	tails *spill // of files that end behind their inodes; nil: none do
}

// maxTails bounds the bytes of files that lie behind inodes, because who looks into the
// metadata reads them, too. It must not depend on the Limits: the bytes of an image do
// not.
const maxTails = 1 << 30

func (g *gathered) file(n *inode, e *entry) error {
	if err := g.out.begin(e.name, e.stored); err != nil {
		return err
	}
	if e.sparse {
		bits, _ := cheapestChunk(e.extents, e.size, g.out.bits)
		if err := g.tree.chunked(n, e.extents, bits); err != nil || e.size == 0 {
			return err
		}
		n.data = g.out.block()
		return g.out.sparse(n, e.extents, func(k int64) error { return g.in.data(k, g.out.write) })
	}
	n.data = g.out.block()
	tail := g.tail(n)
	if err := g.in.data(e.stored-tail, g.out.write); err != nil {
		return err
	}
	if tail == 0 {
		return g.out.pad()
	}
	n.state |= inlined
	n.extra = uint32(g.tails.size)
	if n.size == tail {
		n.data = 0
	}
	return g.in.data(tail, func(p []byte, _ *chunk) error { return g.tails.write(p) })
}

// tail is how many bytes of a flat file are to lie behind its inode: what does not fill
// a block, if both go into one.
func (g *gathered) tail(n *inode) int64 {
	block := g.out.bits.size()
	tail := n.size % block
	if g.tails == nil || n.head()+tail > block || g.tails.size+tail > maxTails {
		return 0
	}
	return tail
}

// lower has no name for what it copies, and begins a chunk for want of room alone.
func (g *gathered) lower(n *inode, write func(io.Writer) error) error {
	if err := g.out.begin("", n.size); err != nil {
		return err
	}
	if n.size > 0 {
		n.data = g.out.block()
	}
	if err := write(g.out); err != nil {
		return err
	}
	return g.out.pad()
}

func (g *gathered) behind(block uint32) int64 { return int64(block) }
func (g *gathered) finish() error             { return nil }

func (g *gathered) close() error {
	if g.tails == nil {
		return nil
	}
	return g.tails.close()
}

// verbatim is the layout of [ProfileTar] and [ProfileIndex]: the tar as it is, in which the
// files are where they always were. What the tar has not in one piece, block by block, lies
// expanded behind the metadata: whatever precedes that, the superblock of ProfileTar has to
// know.
type verbatim struct {
	in    *input
	out   *output
	tree  *tree
	base  int64 // where the tar begins in the image
	where state // outside, if it is no part of that
	spill spill
	late  []lateFile
}

// lateFile is a file behind the metadata.
type lateFile struct {
	n     *inode
	write func(io.Writer) error
}

// block is where the tar's next byte lies, which begins one.
func (v *verbatim) block() uint32 { return uint32((v.base + v.in.pos) >> v.out.bits) }

func (v *verbatim) file(n *inode, e *entry) error {
	n.data = v.block()
	n.state |= v.where
	if !e.sparse {
		return v.in.skip(e.stored)
	}
	ext := joined(e.extents)
	bits, whole := mappedChunk(ext, e.size, v.out.bits)
	expanded, least := cheapestChunk(ext, e.size, v.out.bits)
	n.chunkBits = uint8(bits)
	switch {
	case whole:
		n.chunkBits = 0
		return v.in.skip(e.stored)
	case bits > 0 && n.chunks()*chunkIndexSize <= least:
		if err := v.tree.chunked(n, ext, bits); err != nil {
			return err
		}
		return v.in.skip(e.stored)
	}
	return v.expand(n, ext, expanded)
}

// expand keeps a sparse file's data until the metadata is written.
func (v *verbatim) expand(n *inode, ext []extent, chunkBits int) error {
	n.data, n.chunkBits = 0, 0
	n.state &^= outside
	if err := v.tree.chunked(n, ext, chunkBits); err != nil || n.size == 0 {
		return err
	}
	if err := v.tree.charge(len(ext) * extentHeld); err != nil {
		return err
	}
	from, size := v.spill.size, sumExtents(ext)
	if err := v.in.data(size, func(p []byte, _ *chunk) error { return v.spill.write(p) }); err != nil {
		return err
	}
	v.late = append(v.late, lateFile{n, func(out io.Writer) error {
		r := io.NewSectionReader(&v.spill, from, size)
		return v.out.sparse(n, ext, func(k int64) error {
			_, err := io.CopyN(out, r, k)
			return err
		})
	}})
	return nil
}

func (v *verbatim) lower(n *inode, write func(io.Writer) error) error {
	if n.size > 0 {
		v.late = append(v.late, lateFile{n, write})
		return nil
	}
	return write(v.out)
}

func (v *verbatim) behind(block uint32) int64 {
	next := int64(block)
	for _, f := range v.late {
		f.n.data = uint32(next)
		next += v.out.bits.up(f.n.stored()) >> v.out.bits
	}
	return next
}

func (v *verbatim) finish() error {
	for _, f := range v.late {
		if err := f.write(v.out); err != nil {
			return err
		}
		if err := v.out.pad(); err != nil {
			return err
		}
	}
	return nil
}

func (v *verbatim) close() error { return v.spill.close() }
