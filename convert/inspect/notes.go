package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Verity is a layer's dm-verity tree, by its annotations.
type Verity struct {
	RootDigest string `json:"rootDigest"`
	HashOffset int64  `json:"hashOffset"` // in the image, in bytes
	BlockSize  int64  `json:"blockSize"`
}

func verityOf(d ocispec.Descriptor) (*Verity, error) {
	v := &Verity{RootDigest: d.Annotations[erofs.AnnotationVerityRootDigest], BlockSize: 4096}
	if v.RootDigest == "" && d.Annotations[erofs.AnnotationVerityHashOffset] == "" {
		return nil, nil
	}
	var err error
	if v.HashOffset, err = decimal(d, erofs.AnnotationVerityHashOffset); err != nil {
		return nil, err
	}
	if d.Annotations[erofs.AnnotationVerityBlockSize] != "" {
		v.BlockSize, err = decimal(d, erofs.AnnotationVerityBlockSize)
	}
	return v, err
}

func decimal(d ocispec.Descriptor, key string) (int64, error) {
	n, err := strconv.ParseInt(d.Annotations[key], 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("annotation %s: %q is no number of bytes", key, d.Annotations[key])
	}
	return n, nil
}

// Chunks are what a layer's embedded chunk index says.
type Chunks struct {
	Count  int   `json:"count"`
	Stored int64 `json:"stored"` // bytes of all chunks as they lie in the blob
	Held   int64 `json:"held"`   // and of what they hold
	Least  int64 `json:"least"`  // bytes held by the smallest
	Most   int64 `json:"most"`   // and by the largest
	// Sums says that the index has a checksum of each.
	Sums bool `json:"sums"`
}

// The index's header and entries (3.4.1, 3.4.2).
const (
	chunkMagic  = "\xCD\xE4\xEC\x67"
	chunkHeader = 32
	chunkEntry  = 16
	// maxChunkIndex is the most of one that is fetched.
	maxChunkIndex = 64 << 20
	// skippableHeader stands before an index in a blob of zstd frames.
	skippableHeader = 8
)

func chunksOf(ctx context.Context, src convert.Source, d ocispec.Descriptor) (*Chunks, error) {
	off, end, err := chunkRange(d)
	if off < 0 || err != nil {
		return nil, err
	}
	index, err := fetchPart(ctx, src, d, off, end-off)
	if err != nil {
		return nil, fmt.Errorf("chunk index: %w", err)
	}
	if want := digest.Digest(d.Annotations[erofs.AnnotationChunkIndexDigest]); want != "" && digest.FromBytes(index) != want {
		return nil, fmt.Errorf("chunk index: its digest is %s and the annotation says %s", digest.FromBytes(index), want)
	}
	c, err := parseChunks(index, off)
	if err != nil {
		return nil, fmt.Errorf("chunk index: %w", err)
	}
	return c, nil
}

// chunkRange is where the index lies in the blob, without the header of its frame; off is -1
// where there is none.
func chunkRange(d ocispec.Descriptor) (off, end int64, err error) {
	note, ok := d.Annotations[erofs.AnnotationChunkIndexRange]
	if !ok {
		return -1, 0, nil
	}
	from, to, ends := strings.Cut(note, ":")
	off, err = strconv.ParseInt(from, 10, 64)
	if end = d.Size; err == nil && ends {
		end, err = strconv.ParseInt(to, 10, 64)
	}
	if strings.HasSuffix(d.MediaType, "+zstd") {
		off += skippableHeader
	}
	if err != nil || off < 0 || end > d.Size || end-off < chunkHeader || end-off > maxChunkIndex {
		return -1, 0, fmt.Errorf("annotation %s: %q is no range of a chunk index in %d bytes", erofs.AnnotationChunkIndexRange, note, d.Size)
	}
	return off, end, nil
}

func fetchPart(ctx context.Context, src convert.Source, d ocispec.Descriptor, off, n int64) ([]byte, error) {
	r, err := newRanges(ctx, src, d)
	if err != nil {
		return nil, err
	}
	w, err := r.fetch(off, n)
	return w.p, err
}

// parseChunks reads an index. blob is where the chunks end in the blob.
func parseChunks(b []byte, blob int64) (*Chunks, error) {
	sum := int64(b[21])
	n := int64(le.Uint32(b[16:]))
	switch {
	case string(b[:4]) != chunkMagic || b[4] != 1:
		return nil, errors.New("it has another magic or version")
	case int64(len(b)) != chunkHeader+n*(chunkEntry+sum):
		return nil, fmt.Errorf("%d bytes are not %d chunks: %w", len(b), n, io.ErrUnexpectedEOF)
	}
	total := int64(le.Uint64(b[8:]))
	c := &Chunks{Count: int(n), Held: total, Sums: sum > 0}
	entry := func(i int64) []byte { return b[chunkHeader+i*(chunkEntry+sum):] }
	for i := range n {
		at, next := int64(le.Uint64(entry(i)[8:])), total
		if i+1 < n {
			next = int64(le.Uint64(entry(i + 1)[8:]))
		}
		held := next - at
		if held < 0 || at < 0 {
			return nil, fmt.Errorf("chunk %d lies behind the next one", i)
		}
		if i == 0 || held < c.Least {
			c.Least = held
		}
		c.Most = max(c.Most, held)
	}
	if n > 0 {
		c.Stored = blob - int64(le.Uint64(entry(0)))
	}
	return c, nil
}
