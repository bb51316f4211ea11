package erofs

import (
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// maxMetadata bounds what ReadMetadata takes into memory, whatever a record
// says, and what Convert writes, whatever its Limits: the one must read what the
// other made. DefaultLimits stay below it: what MetaBytes count and some 130 bytes
// of inode and directory entry for each of Entries, at worst twice as much, since
// an inode and what lies behind it do not cross a block.
const maxMetadata = 4 << 30

var errMetadataTooLarge = &LimitError{Limit: "bytes of metadata", Max: maxMetadata}

// ReadMetadata reads the first 4096 bytes and the metadata of l out of its blob, of which it
// reads nothing else, and checks them against l.Metadata.Digest.
func ReadMetadata(blob io.ReaderAt, l *Layer) (super, meta []byte, err error) {
	span := l.Metadata
	if span.Size < 0 || span.Size > maxMetadata || span.BlobOffset < 0 || span.BlobOffset > l.Size {
		return nil, nil, fmt.Errorf("metadata of layer %s: %d bytes at %d of %d cannot be", l.Digest, span.Size, span.BlobOffset, l.Size)
	}
	if super, err = readPart(blob, l, 0, headSize); err == nil {
		meta, err = readPart(blob, l, span.BlobOffset, span.Size)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("metadata of layer %s: %w", l.Digest, err)
	}
	sum := digest.SHA256.Digester()
	sum.Hash().Write(super)
	sum.Hash().Write(meta)
	if got := sum.Digest(); got != span.Digest {
		return nil, nil, fmt.Errorf("metadata of layer %s: digest %s instead of %s", l.Digest, got, span.Digest)
	}
	return super, meta, nil
}

// readPart reads n bytes of the image that begin at off in the blob.
func readPart(blob io.ReaderAt, l *Layer, off, n int64) ([]byte, error) {
	r := io.Reader(io.NewSectionReader(blob, off, l.Size-off))
	if l.Profile == ProfileZstd {
		dec, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			return nil, err
		}
		defer dec.Close()
		r = dec
	}
	p := make([]byte, n)
	if _, err := io.ReadFull(r, p); err != nil {
		return nil, err
	}
	return p, nil
}
