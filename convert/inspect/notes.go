package inspect

import (
	"context"
	"fmt"
	"strconv"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/erofs"
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

func chunksOf(ctx context.Context, src convert.Source, d ocispec.Descriptor) (*Chunks, error) {
	x, ok, err := erofs.ChunkIndexOf(d)
	if !ok || err != nil {
		return nil, err
	}
	raw, err := erofs.ReadRawIndex(convert.ReaderAt(ctx, src, d), d, x)
	if err != nil {
		return nil, err
	}
	return statistics(raw, x.Offset)
}

// statistics are of an index whose chunks end at end in the blob.
func statistics(x erofs.RawIndex, end int64) (*Chunks, error) {
	if err := x.Whole(); err != nil {
		return nil, err
	}
	c := &Chunks{Count: x.Len(), Held: int64(x.ImageSize), Sums: x.HashSize > 0}
	next := c.Held
	for i := c.Count - 1; i >= 0; i-- {
		at := int64(x.Entry(i).ImageOffset)
		held := next - at
		if held < 0 || at < 0 {
			return nil, fmt.Errorf("chunk index: chunk %d lies behind the next one", i)
		}
		if i == c.Count-1 || held < c.Least {
			c.Least = held
		}
		c.Most = max(c.Most, held)
		next = at
	}
	if c.Count > 0 {
		c.Stored = end - int64(x.Entry(0).Offset)
	}
	return c, nil
}
