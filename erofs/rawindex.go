package erofs

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// RawIndex is a chunk index as its maker wrote it, field by field (3.4.1). Nothing in it is
// checked but that there is a header.
type RawIndex struct {
	Version     uint8
	Compression uint8 // 0: none, 1: zstd, each chunk one frame
	Flags       uint16
	ImageSize   uint64
	Count       uint32 // of chunks, by the header
	HashAlgo    uint8  // 0: none, 1: SHA-2
	HashSize    uint8
	Reserved    [10]byte

	entries []byte
}

// RawEntry is a chunk of a RawIndex (3.4.2).
type RawEntry struct {
	Offset, ImageOffset uint64
	Sum                 []byte // empty where there are none
}

// ParseChunkIndex takes a chunk index without the frame around it.
func ParseChunkIndex(b []byte) (x RawIndex, err error) {
	if len(b) < indexHeaderSize || string(b[:4]) != ChunkIndexMagic {
		return x, errors.New("no chunk index")
	}
	le := binary.LittleEndian
	return RawIndex{
		Version: b[4], Compression: b[5], Flags: le.Uint16(b[6:]), ImageSize: le.Uint64(b[8:]), Count: le.Uint32(b[16:]),
		HashAlgo: b[20], HashSize: b[21], Reserved: [10]byte(b[22:]), entries: b[indexHeaderSize:],
	}, nil
}

func (x RawIndex) entrySize() int { return 16 + int(x.HashSize) }

// Whole gives an error where the bytes are not just those of Count chunks.
func (x RawIndex) Whole() error {
	if int64(len(x.entries)) != int64(x.Count)*int64(x.entrySize()) {
		return fmt.Errorf("chunk index: %d bytes do not hold its %d chunks", indexHeaderSize+len(x.entries), x.Count)
	}
	return nil
}

// Len is how many chunks the bytes hold.
func (x RawIndex) Len() int { return len(x.entries) / x.entrySize() }

// Entry gives chunk i of Len.
func (x RawIndex) Entry(i int) RawEntry {
	e := x.entries[i*x.entrySize():][:x.entrySize()]
	le := binary.LittleEndian
	return RawEntry{Offset: le.Uint64(e), ImageOffset: le.Uint64(e[8:]), Sum: e[16:]}
}

// readable gives an error where the index is not of the kind that is read at random here.
func (x RawIndex) readable() error {
	switch {
	case x.Version != indexVersion:
		return fmt.Errorf("chunk index of version %d: %w, which is of version %d", x.Version, ErrNoChunkIndex, indexVersion)
	case x.Compression != indexZstd:
		return fmt.Errorf("chunk index with compression %d in a +zstd blob: %w", x.Compression, ErrNoChunkIndex)
	case x.Flags != 0:
		return fmt.Errorf("chunk index with the reserved flags %#x, which a later version may know: %w", x.Flags, ErrNoChunkIndex)
	case x.Reserved != [10]byte{}:
		return fmt.Errorf("chunk index: its reserved bytes are % x", x.Reserved)
	case x.HashAlgo != indexSHA2 || x.HashSize != sha256.Size:
		return fmt.Errorf("chunk index with hash algorithm %d of %d bytes: %w, which has SHA-256", x.HashAlgo, x.HashSize, ErrNoChunkIndex)
	}
	return x.Whole()
}

// chunks gives the chunks of an index whose chunks end at end in the blob. They
// follow each other without gaps, in the image and in the blob.
func (x RawIndex) chunks(end int64) ([]Chunk, error) {
	if err := x.readable(); err != nil {
		return nil, err
	}
	if x.ImageSize > maxChunk*uint64(x.Count) {
		return nil, fmt.Errorf("chunk index: %d bytes in %d chunks", x.ImageSize, x.Count)
	}
	chunks := make([]Chunk, x.Count)
	// Backwards, for each ends where the next begins.
	next := Chunk{Offset: end, ImageOffset: int64(x.ImageSize)}
	for i := len(chunks) - 1; i >= 0; i-- {
		e := x.Entry(i)
		c := Chunk{Offset: int64(e.Offset), ImageOffset: int64(e.ImageOffset), SHA256: [sha256.Size]byte(e.Sum)}
		if c.Offset < 0 || c.Offset >= next.Offset || c.ImageOffset < 0 || c.ImageOffset >= next.ImageOffset {
			return nil, fmt.Errorf("chunk index: chunk %d at %d of the blob and %d of the image does not lie before what follows it, at %d and %d",
				i, c.Offset, c.ImageOffset, next.Offset, next.ImageOffset)
		}
		c.Size, c.ImageSize = next.Offset-c.Offset, next.ImageOffset-c.ImageOffset
		if max(c.Size, c.ImageSize) > maxChunk {
			return nil, fmt.Errorf("chunk index: chunk %d is larger than %d bytes: %w", i, maxChunk, ErrNoChunkIndex)
		}
		chunks[i], next = c, c
	}
	if next.ImageOffset != 0 {
		return nil, fmt.Errorf("chunk index: the first chunk begins at %d of the image", next.ImageOffset)
	}
	return chunks, nil
}
