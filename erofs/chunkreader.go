package erofs

import (
	"container/list"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// cachedChunks is how much of an image a ChunkReader holds, in bytes.
	cachedChunks = 32 << 20
	// fetchedAtOnce is how much of a blob it reads in one call where chunks that are
	// asked for follow each other, in bytes.
	fetchedAtOnce = 8 << 20
)

// ChunkReader reads the image in a +zstd blob at random, by its chunk index. It fetches
// the chunks that it needs, one call of the blob's ReadAt for those that follow each
// other, believes none whose digest is not the index's, and keeps the last 32 MiB. It
// may be used from many goroutines if the blob may.
type ChunkReader struct {
	blob   io.ReaderAt
	chunks []Chunk
	size   int64
	dec    *zstd.Decoder

	mu    sync.Mutex
	held  map[int]*list.Element // of cachedChunk
	order list.List             // the last used first
	bytes int64
}

type cachedChunk struct {
	index int
	data  []byte
}

// OpenImage reads the image of a layer in its blob without the whole of it: a raw
// blob is the image, and a +zstd blob has to have a chunk index. What a raw blob says is
// not checked.
func OpenImage(blob io.ReaderAt, desc ocispec.Descriptor) (io.ReaderAt, error) {
	switch desc.MediaType {
	case MediaTypeImage, MediaTypeLegacy:
		return blob, nil
	case MediaTypeImageZstd, MediaTypeLegacyZstd:
	default:
		return nil, fmt.Errorf("layer %s: media type %q is no EROFS image", desc.Digest, desc.MediaType)
	}
	x, ok, err := ChunkIndexOf(desc)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("layer %s: %w", desc.Digest, ErrNoChunkIndex)
	}
	r, err := OpenChunks(blob, desc.Size, x)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", desc.Digest, err)
	}
	return r, nil
}

// ErrNoChunkIndex is of a compressed blob that can only be read from its beginning: it has
// no index, or one of a kind that is not read here.
var ErrNoChunkIndex = errors.New("no chunk index that is read here")

// OpenChunks reads the chunk index of a blob of size bytes.
func OpenChunks(blob io.ReaderAt, size int64, x ChunkIndex) (*ChunkReader, error) {
	chunks, err := ReadChunkIndex(blob, size, x)
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxChunk))
	if err != nil {
		return nil, err
	}
	r := &ChunkReader{blob: blob, chunks: chunks, dec: dec, held: map[int]*list.Element{}}
	if n := len(chunks); n > 0 {
		r.size = chunks[n-1].ImageOffset + chunks[n-1].ImageSize
	}
	return r, nil
}

// Size is the image's, in bytes.
func (r *ChunkReader) Size() int64 { return r.size }

// Chunks are all chunks in order. The caller must not change them.
func (r *ChunkReader) Chunks() []Chunk { return r.chunks }

// ReadAt implements io.ReaderAt. Errors of the blob are wrapped.
func (r *ChunkReader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read image at %d: the offset is below zero", off)
	}
	for n < len(p) && off < r.size {
		i := r.find(off)
		wanted := off + int64(len(p)-n)
		data, err := r.chunk(i, wanted)
		if err != nil {
			return n, err
		}
		k := copy(p[n:], data[off-r.chunks[i].ImageOffset:])
		n += k
		off += int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// find gives the chunk that holds the byte at off of the image.
func (r *ChunkReader) find(off int64) int {
	i, exact := slices.BinarySearchFunc(r.chunks, off, func(c Chunk, off int64) int {
		switch {
		case c.ImageOffset < off:
			return -1
		case c.ImageOffset > off:
			return 1
		}
		return 0
	})
	if exact {
		return i
	}
	return i - 1
}

// chunk gives what chunk i holds. If it has to be fetched, those behind it come along
// that hold image bytes before end.
func (r *ChunkReader) chunk(i int, end int64) ([]byte, error) {
	if data := r.cached(i); data != nil {
		return data, nil
	}
	n, size := 1, r.chunks[i].Size
	for j := i + 1; j < len(r.chunks) && r.chunks[j].ImageOffset < end && size+r.chunks[j].Size <= fetchedAtOnce && !r.has(j); j++ {
		size += r.chunks[j].Size
		n++
	}
	frames := make([]byte, size)
	if _, err := readFullAt(r.blob, frames, r.chunks[i].Offset); err != nil {
		return nil, fmt.Errorf("read chunk %d: %w", i, err)
	}
	var first []byte
	for j := range n {
		c := r.chunks[i+j]
		data, err := r.decode(c, frames[:c.Size])
		if err != nil {
			return nil, fmt.Errorf("chunk %d at %d of the blob: %w", i+j, c.Offset, err)
		}
		frames = frames[c.Size:]
		if j == 0 {
			first = data
		}
		r.hold(i+j, data)
	}
	return first, nil
}

func (r *ChunkReader) decode(c Chunk, frame []byte) ([]byte, error) {
	if sha256.Sum256(frame) != c.SHA256 {
		return nil, errors.New("damaged: its digest is not the chunk index's")
	}
	data, err := r.dec.DecodeAll(frame, make([]byte, 0, c.ImageSize))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != c.ImageSize {
		return nil, fmt.Errorf("it holds %d bytes, and the chunk index says %d", len(data), c.ImageSize)
	}
	return data, nil
}

func (r *ChunkReader) cached(i int) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.held[i]
	if e == nil {
		return nil
	}
	r.order.MoveToFront(e)
	return e.Value.(cachedChunk).data
}

func (r *ChunkReader) has(i int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held[i] != nil
}

// hold keeps a chunk, and lets those go that were not used for longest.
func (r *ChunkReader) hold(i int, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held[i] != nil {
		return // another goroutine fetched it, too
	}
	r.held[i] = r.order.PushFront(cachedChunk{i, data})
	r.bytes += int64(len(data))
	for r.bytes > cachedChunks {
		last := r.order.Remove(r.order.Back()).(cachedChunk)
		delete(r.held, last.index)
		r.bytes -= int64(len(last.data))
	}
}
