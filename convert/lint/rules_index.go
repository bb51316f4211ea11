package lint

import (
	"fmt"

	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
)

var indexRules = []Rule{
	{ID: "standalone-place", Level: Must, Section: "3.8", Text: "a chunk index that is a layer is neither the first nor the last",
		check: func(im *image, say say) {
			for i, l := range im.layers {
				if l.isIndex() && (i == 0 || i == len(im.layers)-1) {
					say(l, "it is layer %d of %d", i+1, len(im.layers))
				}
			}
		}},
	{ID: "standalone-target", Level: Should, Section: "3.4.3", Text: "a chunk index that is a layer names the layer that it is of",
		check: func(im *image, say say) {
			for _, l := range im.layers {
				if l.isIndex() && l.Annotations[erofs.AnnotationChunkIndexTarget] == "" {
					say(l, "it has no annotation %s", erofs.AnnotationChunkIndexTarget)
				}
			}
		}},
	{ID: "standalone-target-match", Level: Must, Section: "3.4.3", Text: "the layer that a chunk index names is the one before it",
		check: func(im *image, say say) {
			for i, l := range im.layers {
				if to := l.Annotations[erofs.AnnotationChunkIndexTarget]; l.isIndex() && to != "" && (i == 0 || im.layers[i-1].Digest.String() != to) {
					say(l, "it names %s", to)
				}
			}
		}},
	{ID: "standalone-digest", Level: Should, Section: "3.4.5", Text: "a chunk index that is a layer has the annotation with its digest",
		check: func(im *image, say say) {
			for _, l := range im.layers {
				if l.isIndex() && l.Annotations[erofs.AnnotationChunkIndexDigest] == "" {
					say(l, "it has no annotation %s", erofs.AnnotationChunkIndexDigest)
				}
			}
		}},
	{ID: "one-index", Level: Should, Section: "3.4.3", Text: "a layer with a chunk index in its blob is not followed by another one",
		check: func(im *image, say say) {
			for i, l := range im.layers {
				if i > 0 && l.isIndex() && im.layers[i-1].Annotations[erofs.AnnotationChunkIndexRange] != "" {
					say(l, "the layer before it has an index already")
				}
			}
		}},
	{ID: "index-range", Level: Must, Section: "8.1, 5", Text: "a layer with a chunk index in its blob says where",
		check: eachLayer(func(l *layer, say func(string, ...any)) {
			if l.Annotations[erofs.AnnotationChunkIndexRange] != "" {
				return
			}
			for _, k := range []string{erofs.AnnotationChunkIndexDigest, erofs.AnnotationChunkIndexMediaType} {
				if l.Annotations[k] != "" {
					say("it has the annotation %s, and no %s", k, erofs.AnnotationChunkIndexRange)
					return
				}
			}
			if l.hidden > 0 {
				say("a chunk index lies at %d, and no annotation says so", l.hidden)
			}
		})},
	{ID: "index-digest", Level: Must, Section: "8.1, 5", Text: "a layer with a chunk index in its blob has the annotation with its digest",
		check: eachLayer(func(l *layer, say func(string, ...any)) {
			if l.Annotations[erofs.AnnotationChunkIndexRange] != "" && l.Annotations[erofs.AnnotationChunkIndexDigest] == "" {
				say("it has no annotation %s", erofs.AnnotationChunkIndexDigest)
			}
		})},
	{ID: "index-place", Level: Must, Section: "2.3", Text: "the range of a chunk index is that of the end of its blob",
		check: eachIndex(func(l *layer, c *chunkIndex, say func(string, ...any)) {
			if c.problem != "" {
				say("%s", c.problem)
			}
		})},
	{ID: "index-frame", Level: Must, Section: "3.4.3", Text: "in zstd a chunk index is a skippable frame",
		check: eachIndex(func(l *layer, c *chunkIndex, say func(string, ...any)) {
			if c.frame != "" {
				say("%s", c.frame)
			}
		})},
	{ID: "index-aligned", Level: Should, Section: "3.4.3", Text: "in zstd the frame of a chunk index begins at a multiple of 4",
		check: eachIndex(func(l *layer, c *chunkIndex, say func(string, ...any)) {
			if c.embedded && l.isZstd() && c.offset%4 != 0 {
				say("it begins at %d", c.offset)
			}
		})},
	{ID: "index-digest-match", Level: Must, Section: "2.3", Text: "the digest of a chunk index is that of its header and entries",
		check: eachIndex(func(l *layer, c *chunkIndex, say func(string, ...any)) {
			want := digest.Digest(l.Annotations[erofs.AnnotationChunkIndexDigest])
			if c.payload == nil || want.Validate() != nil {
				return
			}
			if got := want.Algorithm().FromBytes(c.payload); got != want {
				say("its digest is %s, and the annotation says %s", got, want)
			}
		})},
	{ID: "index-header", Level: Must, Section: "3.4.1", Text: "a chunk index begins with the magic CD E4 EC 67 and version 1",
		check: eachIndex(func(l *layer, c *chunkIndex, say func(string, ...any)) {
			switch {
			case c.payload != nil && c.raw == nil:
				say("it begins with % x", c.payload[:min(5, len(c.payload))])
			case c.raw != nil && c.raw.Version != 1:
				say("it is of version %d", c.raw.Version)
			}
		})},
	{ID: "index-compression", Level: Must, Section: "3.4.1", Text: "the compression of a chunk index is that of its layer: 0 for raw, 1 for zstd",
		check: eachRaw(func(l *layer, c *chunkIndex, say func(string, ...any)) {
			want := uint8(0)
			if c.of != nil && c.of.isZstd() {
				want = 1
			}
			if c.raw.Compression != want {
				say("it has compression %d, and %d is that of the layer", c.raw.Compression, want)
			}
		})},
	{ID: "index-flags", Level: Must, Section: "3.4.1", Text: "the flags of a chunk index are 0",
		check: eachRaw(func(l *layer, c *chunkIndex, say func(string, ...any)) {
			if c.raw.Flags != 0 {
				say("it has the flags %#x", c.raw.Flags)
			}
		})},
	{ID: "index-reserved", Level: Must, Section: "3.4.1", Text: "the reserved bytes of a chunk index are 0",
		check: eachRaw(func(l *layer, c *chunkIndex, say func(string, ...any)) {
			if c.raw.Reserved != [10]byte{} {
				say("its reserved bytes are % x", c.raw.Reserved)
			}
		})},
	{ID: "index-hash", Level: Must, Section: "3.4.1", Text: "the checksums of a chunk index are none, or SHA-2 of 32 or 64 bytes",
		check: eachRaw(func(l *layer, c *chunkIndex, say func(string, ...any)) {
			switch [2]uint8{c.raw.HashAlgo, c.raw.HashSize} {
			case [2]uint8{0, 0}, [2]uint8{1, 32}, [2]uint8{1, 64}:
			default:
				say("it has hash algorithm %d of %d bytes", c.raw.HashAlgo, c.raw.HashSize)
			}
		})},
	{ID: "index-sums", Level: Should, Section: "3.4.5", Text: "a chunk index has a checksum of each chunk",
		check: eachRaw(func(l *layer, c *chunkIndex, say func(string, ...any)) {
			if c.raw.HashAlgo == 0 {
				say("it has none")
			}
		})},
	{ID: "index-length", Level: Must, Section: "3.4.4", Text: "a chunk index is 32 bytes and 16 for each chunk, with its checksum",
		check: eachRaw(func(l *layer, c *chunkIndex, say func(string, ...any)) {
			if err := c.raw.Whole(); err != nil {
				say("%v", err)
			}
		})},
	{ID: "index-entries", Level: Must, Section: "3.4.2", Text: "chunks follow each other in the image from its first byte on, and lie in the blob before the index",
		check: eachRaw(indexEntries)},
	{ID: "index-size", Level: Must, Section: "3.4.1", Text: "the size in a chunk index is that of the image, with a dm-verity tree",
		check: eachRaw(indexSize)},
	{ID: "chunk-frame", Level: Must, Section: "3.3", Text: "in zstd each chunk is one frame, of as many bytes of the image as the index says",
		check: eachIndex(func(l *layer, c *chunkIndex, say func(string, ...any)) { tellSome(c.frames, say) })},
	{ID: "chunk-sum", Level: Must, Section: "3.4.2", Text: "the checksum in a chunk index is that of the chunk's bytes in the blob",
		check: eachIndex(func(l *layer, c *chunkIndex, say func(string, ...any)) { tellSome(c.damaged, say) })},
}

// tellSome tells the first, and how many more there are.
func tellSome(list []string, say func(string, ...any)) {
	switch n := len(list); {
	case n == 1:
		say("%s", list[0])
	case n > 1:
		say("%s, and %d more", list[0], n-1)
	}
}

func indexEntries(l *layer, c *chunkIndex, say func(string, ...any)) {
	if c.raw.Whole() != nil || !c.embedded && c.of == nil {
		return
	}
	if c.raw.Len() == 0 && c.raw.ImageSize > 0 {
		say("it has no chunks, and the image is of %d bytes", c.raw.ImageSize)
	}
	var bad []string
	for i := range c.raw.Len() {
		if _, err := c.chunk(i); err != nil {
			bad = append(bad, err.Error())
		}
	}
	tellSome(bad, say)
}

// indexSize compares the size with the raw blob's, or with where the image's superblock or its
// tree says that it ends; with Deep it is the sum of the chunks.
func indexSize(l *layer, c *chunkIndex, say func(string, ...any)) {
	if c.of == nil || !c.of.isEROFS() {
		return
	}
	var end int64
	switch of := c.of; {
	case !of.isZstd() && c.embedded:
		end = c.offset
	case !of.isZstd():
		end = of.Size
	case of.verity.tree != nil:
		end = of.verity.tree.End()
	case of.super != nil:
		end = of.super.Blocks * of.super.BlockSize
	}
	if end > 0 && c.raw.ImageSize != uint64(end) {
		say("it says %d bytes, and the image is of %d", c.raw.ImageSize, end)
	}
}

// eachIndex has check called for all chunk indexes.
func eachIndex(check func(l *layer, c *chunkIndex, say func(string, ...any))) func(*image, say) {
	return func(im *image, say say) {
		for _, l := range im.layers {
			if l.chunks != nil {
				check(l, l.chunks, func(format string, args ...any) { say(l, "chunk index: %s", fmt.Sprintf(format, args...)) })
			}
		}
	}
}

// eachRaw is eachIndex, of those that have a header.
func eachRaw(check func(l *layer, c *chunkIndex, say func(string, ...any))) func(*image, say) {
	return eachIndex(func(l *layer, c *chunkIndex, say func(string, ...any)) {
		if c.raw != nil {
			check(l, c, say)
		}
	})
}
