package erofs

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ChunkIndexMagic is what a chunk index begins with.
const ChunkIndexMagic = "\xCD\xE4\xEC\x67"

// The chunk index of the draft (3.4), little endian, and the skippable frame of zstd
// (RFC 8878, 3.1.2) in which it ends a +zstd blob.
const (
	indexVersion    = 1
	indexZstd       = 1 // each chunk is one frame
	indexSHA2       = 1
	indexHeaderSize = 32
	indexEntrySize  = 8 + 8 + sha256.Size

	skippableMagic = 0x184D2A50 // the first of 16

	// SkippableHeader is how many bytes of a skippable frame are before what it holds.
	SkippableHeader = 8
)

// IsSkippable reports whether b, of SkippableHeader bytes or more, begins a skippable frame of
// zstd that holds n bytes.
func IsSkippable(b []byte, n int64) bool {
	le := binary.LittleEndian
	return le.Uint32(b)&^0xF == skippableMagic && int64(le.Uint32(b[4:])) == n
}

// What a reader takes: the draft names no limits, and these bound its memory.
const (
	maxChunk      = 16 << 20 // bytes of one chunk, in the image and in the blob
	maxIndexBytes = 64 << 20 // of an index: 1.4 million chunks
)

// ChunkIndex is where the chunk index of a blob lies: from Offset, which is that of the
// skippable frame, to End, the blob's.
type ChunkIndex struct {
	Offset int64         `json:"offset"`
	End    int64         `json:"end"`
	Digest digest.Digest `json:"digest"` // of the index without the frame's header
}

// Chunk is a piece of an image, and where it lies in the blob as a frame of zstd.
type Chunk struct {
	Offset, Size           int64 // in the blob
	ImageOffset, ImageSize int64
	SHA256                 [sha256.Size]byte // of the frame
}

// encodeIndex gives the skippable frame with the index of chunks.
func encodeIndex(chunks []Chunk, imageSize int64) []byte {
	le := binary.LittleEndian
	size := indexHeaderSize + len(chunks)*indexEntrySize
	b := make([]byte, 0, SkippableHeader+size)
	b = le.AppendUint32(b, skippableMagic)
	b = le.AppendUint32(b, uint32(size))
	b = append(b, ChunkIndexMagic...)
	b = append(b, indexVersion, indexZstd, 0, 0)
	b = le.AppendUint64(b, uint64(imageSize))
	b = le.AppendUint32(b, uint32(len(chunks)))
	b = append(b, indexSHA2, sha256.Size)
	b = append(b, make([]byte, 10)...)
	for _, c := range chunks {
		b = le.AppendUint64(b, uint64(c.Offset))
		b = le.AppendUint64(b, uint64(c.ImageOffset))
		b = append(b, c.SHA256[:]...)
	}
	return b
}

// ChunkIndexOf reads a layer's annotations. It reports false where they name no chunk
// index in the layer's blob. Digest is empty where they have none, which the draft
// only recommends (2.3); [ReadChunkIndex] takes no such index.
func ChunkIndexOf(desc ocispec.Descriptor) (x ChunkIndex, ok bool, err error) {
	span := desc.Annotations[AnnotationChunkIndexRange]
	if span == "" {
		return x, false, nil
	}
	if mt := desc.Annotations[AnnotationChunkIndexMediaType]; mt != "" && mt != MediaTypeChunkIndex {
		return x, false, nil // as if there were none (2.2)
	}
	from, to, bounded := strings.Cut(span, ":")
	x.End = desc.Size
	off, err1 := strconv.ParseUint(from, 10, 63)
	if bounded {
		end, err2 := strconv.ParseUint(to, 10, 63)
		x.End, err1 = int64(end), errors.Join(err1, err2)
	}
	if err1 != nil {
		return x, false, fmt.Errorf("layer %s: the chunk index's range %q is no offset[:end]", desc.Digest, span)
	}
	x.Offset, x.Digest = int64(off), digest.Digest(desc.Annotations[AnnotationChunkIndexDigest])
	if err := x.Digest.Validate(); x.Digest != "" && err != nil {
		return x, false, fmt.Errorf("layer %s: the chunk index's digest %q: %w", desc.Digest, x.Digest, err)
	}
	return x, true, nil
}

// ReadChunkIndex reads and checks the index of a +zstd blob of size bytes, in two reads.
// One that the draft permits and that is not read here is an [ErrNoChunkIndex]; any other
// error says that it is damaged.
func ReadChunkIndex(blob io.ReaderAt, size int64, x ChunkIndex) ([]Chunk, error) {
	if x.Digest == "" {
		return nil, fmt.Errorf("chunk index without a digest: %w", ErrNoChunkIndex)
	}
	raw, err := readIndex(blob, size, x, true)
	if err != nil {
		return nil, err
	}
	return raw.chunks(x.Offset)
}

// ReadRawIndex reads the index that [ChunkIndexOf] has found in a layer's blob, of any kind,
// and checks that its frame is whole, and its digest if it has one.
func ReadRawIndex(blob io.ReaderAt, desc ocispec.Descriptor, x ChunkIndex) (RawIndex, error) {
	return readIndex(blob, desc.Size, x, strings.HasSuffix(desc.MediaType, "+zstd"))
}

// readIndex reads an index, which is framed in a +zstd blob.
func readIndex(blob io.ReaderAt, size int64, x ChunkIndex, framed bool) (raw RawIndex, err error) {
	n, least := x.End-x.Offset, int64(indexHeaderSize)
	if framed {
		least += SkippableHeader
	}
	if x.Offset < 0 || x.End > size || n < least || n > maxIndexBytes {
		return raw, fmt.Errorf("chunk index: bytes %d to %d of a blob of %d cannot be", x.Offset, x.End, size)
	}
	b := make([]byte, n)
	if _, err := readFullAt(blob, b, x.Offset); err != nil {
		return raw, fmt.Errorf("read chunk index: %w", err)
	}
	if framed {
		if !IsSkippable(b, n-SkippableHeader) {
			return raw, errors.New("chunk index: no skippable frame of zstd with its size")
		}
		b = b[SkippableHeader:]
	}
	if x.Digest != "" {
		if err := x.Digest.Validate(); err != nil {
			return raw, fmt.Errorf("chunk index: digest %q: %w", x.Digest, err)
		}
		if got := x.Digest.Algorithm().FromBytes(b); got != x.Digest {
			return raw, fmt.Errorf("chunk index: digest %s instead of %s", got, x.Digest)
		}
	}
	return ParseChunkIndex(b)
}

// readFullAt is io.ReaderAt's promise, for readers that break it.
func readFullAt(r io.ReaderAt, p []byte, off int64) (int, error) {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return n, nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
