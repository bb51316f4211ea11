package erofs

import (
	"bytes"
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

// The chunk index of the draft (3.4), little endian, and the skippable frame of zstd
// (RFC 8878, 3.1.2) in which it ends a +zstd blob.
const (
	indexMagic      = "\xCD\xE4\xEC\x67"
	indexVersion    = 1
	indexZstd       = 1 // each chunk is one frame
	indexSHA2       = 1
	indexHeaderSize = 32
	indexEntrySize  = 8 + 8 + sha256.Size

	skippableMagic  = 0x184D2A50 // the first of 16
	skippableHeader = 8
)

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
	b := make([]byte, 0, skippableHeader+size)
	b = le.AppendUint32(b, skippableMagic)
	b = le.AppendUint32(b, uint32(size))
	b = append(b, indexMagic...)
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
// index in the layer's blob.
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
	if err := x.Digest.Validate(); err != nil {
		return x, false, fmt.Errorf("layer %s: the chunk index's digest %q: %w", desc.Digest, x.Digest, err)
	}
	return x, true, nil
}

// ReadChunkIndex reads and checks the index of a blob of size bytes, in two reads.
func ReadChunkIndex(blob io.ReaderAt, size int64, x ChunkIndex) ([]Chunk, error) {
	n := x.End - x.Offset
	if x.Offset < 0 || x.End > size || n < skippableHeader+indexHeaderSize || n > maxIndexBytes {
		return nil, fmt.Errorf("chunk index: bytes %d to %d of a blob of %d cannot be", x.Offset, x.End, size)
	}
	if err := x.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("chunk index: digest %q: %w", x.Digest, err)
	}
	b := make([]byte, n)
	if _, err := readFullAt(blob, b, x.Offset); err != nil {
		return nil, fmt.Errorf("read chunk index: %w", err)
	}
	le := binary.LittleEndian
	if le.Uint32(b)&^0xF != skippableMagic || int64(le.Uint32(b[4:])) != n-skippableHeader {
		return nil, errors.New("chunk index: no skippable frame of zstd with its size")
	}
	b = b[skippableHeader:]
	if got := x.Digest.Algorithm().FromBytes(b); got != x.Digest {
		return nil, fmt.Errorf("chunk index: digest %s instead of %s", got, x.Digest)
	}
	return parseIndex(b, x.Offset)
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

// parseIndex gives the chunks of an index whose frame begins at end in the blob. They
// follow each other without gaps, in the image and in the blob.
func parseIndex(b []byte, end int64) ([]Chunk, error) {
	if err := checkIndexHeader(b); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	imageSize := le.Uint64(b[8:])
	chunks := make([]Chunk, le.Uint32(b[16:]))
	// Backwards, for each ends where the next begins.
	next := Chunk{Offset: end, ImageOffset: int64(imageSize)}
	if imageSize > maxChunk*uint64(len(chunks)) {
		return nil, fmt.Errorf("chunk index: %d bytes in %d chunks", imageSize, len(chunks))
	}
	for i := len(chunks) - 1; i >= 0; i-- {
		e := b[indexHeaderSize+i*indexEntrySize:]
		c := Chunk{Offset: int64(le.Uint64(e)), ImageOffset: int64(le.Uint64(e[8:])), SHA256: [sha256.Size]byte(e[16:])}
		if c.Offset < 0 || c.Offset >= next.Offset || c.ImageOffset < 0 || c.ImageOffset >= next.ImageOffset {
			return nil, fmt.Errorf("chunk index: chunk %d at %d of the blob and %d of the image does not lie before what follows it, at %d and %d",
				i, c.Offset, c.ImageOffset, next.Offset, next.ImageOffset)
		}
		c.Size, c.ImageSize = next.Offset-c.Offset, next.ImageOffset-c.ImageOffset
		if max(c.Size, c.ImageSize) > maxChunk {
			return nil, fmt.Errorf("chunk index: chunk %d is larger than %d bytes, which is as much as is read here", i, maxChunk)
		}
		chunks[i], next = c, c
	}
	if next.ImageOffset != 0 {
		return nil, fmt.Errorf("chunk index: the first chunk begins at %d of the image", next.ImageOffset)
	}
	return chunks, nil
}

func checkIndexHeader(b []byte) error {
	le := binary.LittleEndian
	switch {
	case len(b) < indexHeaderSize || string(b[:4]) != indexMagic:
		return errors.New("no chunk index")
	case b[4] != indexVersion:
		return fmt.Errorf("chunk index of version %d: only %d is read here", b[4], indexVersion)
	case b[5] != indexZstd:
		return fmt.Errorf("chunk index with compression %d: a +zstd blob has %d", b[5], indexZstd)
	case le.Uint16(b[6:]) != 0 || !bytes.Equal(b[22:indexHeaderSize], make([]byte, 10)):
		return errors.New("chunk index: reserved bits are set, which a later version may know")
	case b[20] != indexSHA2 || b[21] != sha256.Size:
		return fmt.Errorf("chunk index: hash algorithm %d of %d bytes: only SHA-256 is read here", b[20], b[21])
	case int64(len(b)) != indexHeaderSize+int64(le.Uint32(b[16:]))*indexEntrySize:
		return fmt.Errorf("chunk index: %d bytes do not hold its %d chunks", len(b), le.Uint32(b[16:]))
	}
	return nil
}
