package lint

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"

	"github.com/lithify/lithify/convert/frames"
	"github.com/lithify/lithify/erofs"
)

// chunkIndex is one of a layer, as far as it could be read.
type chunkIndex struct {
	of       *layer // that it indexes; nil: none
	embedded bool
	problem  string          // of where it lies
	frame    string          // what is wrong with the frame around it
	payload  []byte          // without that; nil: not read
	raw      *erofs.RawIndex // nil where the payload has no header
	offset   int64           // of the frame, or the index, in the blob
	end      int64           // of the blob
	damaged  []string        // chunks that are not what the index says
	frames   []string        // that are not one frame
}

// maxIndex is the most of an index, and maxFirst of a chunk, that is fetched; deep, a chunk may
// be of maxChunk.
const (
	maxIndex = 64 << 20
	maxFirst = 1 << 20
	maxChunk = 64 << 20
)

// readChunks reads the index in the layer's blob, and some of its chunks, or all.
func (r *reading) readChunks() {
	l := r.l
	x, ok, err := erofs.ChunkIndexOf(l.Descriptor)
	if err != nil || !ok {
		if err == nil && l.isZstd() && l.Annotations[erofs.AnnotationChunkIndexRange] == "" {
			r.lookForFrame()
		}
		return // annotation-form tells the error
	}
	c := &chunkIndex{of: l, embedded: true, offset: x.Offset, end: x.End}
	l.chunks = c
	at := x.Offset
	if l.isZstd() {
		at += erofs.SkippableHeader
	}
	switch {
	case x.End > l.Size || x.End-at < 32:
		c.problem = fmt.Sprintf("bytes %d to %d are no index in a blob of %d", x.Offset, x.End, l.Size)
		return
	case x.End < l.Size:
		c.problem = fmt.Sprintf("it ends at %d, and the blob at %d", x.End, l.Size)
	}
	r.readPayload(c, x.Offset, x.End)
	if c.raw != nil && c.raw.Whole() == nil {
		r.checkChunks(c, r.blob)
	}
}

// readPayload reads an index and the frame around it.
func (r *reading) readPayload(c *chunkIndex, off, end int64) {
	if end-off > maxIndex {
		r.l.unread = fmt.Errorf("a chunk index of %d bytes, and %d are read here", end-off, maxIndex)
		return
	}
	b := make([]byte, end-off)
	if _, err := r.blob.ReadAt(b, off); err != nil && err != io.EOF {
		return // the source's, which has noted it
	}
	if c.embedded && r.l.isZstd() {
		head, rest := b[:erofs.SkippableHeader], b[erofs.SkippableHeader:]
		if !erofs.IsSkippable(head, int64(len(rest))) {
			c.frame = fmt.Sprintf("bytes % x at %d begin no skippable frame of %d bytes", head, off, len(rest))
		}
		b = rest
	}
	c.payload = b
	if raw, err := erofs.ParseChunkIndex(b); err == nil {
		c.raw = &raw
	}
}

// span is where a chunk lies.
type span struct{ off, size, imageOff, imageSize int64 }

// chunk gives chunk i where the index makes sense of it.
func (c *chunkIndex) chunk(i int) (s span, err error) {
	e := c.raw.Entry(i)
	next, end := erofs.RawEntry{Offset: uint64(c.offset), ImageOffset: c.raw.ImageSize}, c.offset
	if !c.embedded {
		end = c.of.Size
		next.Offset = uint64(end)
	}
	if i+1 < c.raw.Len() {
		next = c.raw.Entry(i + 1)
	}
	size := next.Offset - e.Offset
	if c.raw.Compression == 0 {
		size = next.ImageOffset - e.ImageOffset
	}
	switch {
	case e.ImageOffset >= next.ImageOffset || next.ImageOffset > c.raw.ImageSize:
		return s, fmt.Errorf("chunk %d at %d of the image does not lie before what follows it, at %d", i, e.ImageOffset, next.ImageOffset)
	case size == 0 || size > uint64(end) || e.Offset > uint64(end)-size:
		return s, fmt.Errorf("chunk %d at %d of the blob is of %d bytes, and the chunks end at %d", i, e.Offset, int64(size), end)
	case i == 0 && e.ImageOffset != 0:
		return s, fmt.Errorf("the first chunk begins at %d of the image", e.ImageOffset)
	}
	return span{int64(e.Offset), int64(size), int64(e.ImageOffset), int64(next.ImageOffset - e.ImageOffset)}, nil
}

// checkChunks compares the first chunk and the last with the index, or all.
func (r *reading) checkChunks(c *chunkIndex, blob io.ReaderAt) {
	n := c.raw.Len()
	for i := range n {
		s, err := c.chunk(i)
		small := (i == 0 || i == n-1) && s.size <= maxFirst
		if err != nil || s.size > maxChunk || !r.deep && !small {
			continue
		}
		p := make([]byte, s.size)
		if _, err := blob.ReadAt(p, s.off); err != nil && err != io.EOF || r.ctx.Err() != nil {
			return
		}
		c.check(i, s, p)
	}
}

// check compares a chunk with what the index says of it.
func (c *chunkIndex) check(i int, s span, p []byte) {
	var sum []byte
	switch c.raw.HashSize {
	case sha256.Size:
		h := sha256.Sum256(p)
		sum = h[:]
	case sha512.Size:
		h := sha512.Sum512(p)
		sum = h[:]
	}
	if sum != nil && !bytes.Equal(sum, c.raw.Entry(i).Sum) {
		c.damaged = append(c.damaged, fmt.Sprintf("chunk %d at %d of the blob has the checksum %x", i, s.off, sum))
	}
	if c.raw.Compression != 1 {
		return
	}
	held, err := frames.One(p)
	switch {
	case errors.Is(err, frames.ErrNotRandom):
	case err != nil:
		c.frames = append(c.frames, fmt.Sprintf("chunk %d at %d of the blob is not one frame: %v", i, s.off, err))
	case held != s.imageSize:
		c.frames = append(c.frames, fmt.Sprintf("chunk %d at %d of the blob holds %d bytes of the image, and the index says %d", i, s.off, held, s.imageSize))
	}
}
