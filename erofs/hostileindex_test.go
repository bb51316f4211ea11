package erofs_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
)

// indexed is a blob that is zeros up to at and ends in an index of these bytes, whose
// digest and frame are right.
func indexed(at int64, index []byte) (io.ReaderAt, int64, erofs.ChunkIndex) {
	frame := binary.LittleEndian.AppendUint32([]byte{0x5F, 0x2A, 0x4D, 0x18}, uint32(len(index)))
	blob := append(append(make([]byte, at), frame...), index...)
	return bytes.NewReader(blob), int64(len(blob)), erofs.ChunkIndex{Offset: at, End: int64(len(blob)), Digest: digest.FromBytes(index)}
}

// index is one of chunks at these places, of the blob and of the image by turns.
func index(imageSize uint64, places ...uint64) []byte {
	le := binary.LittleEndian
	b := []byte{0xCD, 0xE4, 0xEC, 0x67, 1, 1, 0, 0}
	b = le.AppendUint64(b, imageSize)
	b = le.AppendUint32(b, uint32(len(places)/2))
	b = append(append(b, 1, 32), make([]byte, 10)...)
	for i := 0; i < len(places); i += 2 {
		b = le.AppendUint64(le.AppendUint64(b, places[i]), places[i+1])
		b = append(b, make([]byte, 32)...)
	}
	return b
}

func set(b []byte, at int, v byte) []byte {
	b[at] = v
	return b
}

// TestHostileIndex: nothing of an index is believed that does not hold together.
func TestHostileIndex(t *testing.T) {
	const at = 1000
	good := func() []byte { return index(8192, 0, 0, 100, 4096) }
	blob, size, x := indexed(at, good())
	chunks, err := erofs.ReadChunkIndex(blob, size, x)
	if err != nil || len(chunks) != 2 || chunks[1] != (erofs.Chunk{Offset: 100, Size: 900, ImageOffset: 4096, ImageSize: 4096}) {
		t.Fatalf("%v: %+v", err, chunks)
	}
	blob, size, x = indexed(at, index(0))
	if chunks, err := erofs.ReadChunkIndex(blob, size, x); err != nil || len(chunks) != 0 {
		t.Errorf("of an empty image: %v, %+v", err, chunks)
	}
	const top = math.MaxUint64
	for name, c := range map[string]struct {
		index []byte
		says  string
	}{
		"no magic":                   {set(good(), 0, 0), "no chunk index"},
		"cut in the header":          {good()[:31], "cannot be"},
		"version":                    {set(good(), 4, 2), "version 2"},
		"raw":                        {set(good(), 5, 0), "compression 0"},
		"flags":                      {set(good(), 7, 1), "reserved"},
		"reserved":                   {set(good(), 31, 1), "reserved"},
		"no hashes":                  {set(set(good(), 20, 0), 21, 0), "hash algorithm 0"},
		"SHA-512":                    {set(good(), 21, 64), "64 bytes"},
		"one chunk more":             {set(good(), 16, 3), "3 chunks"},
		"2^32 chunks":                {set(set(set(set(good(), 16, 255), 17, 255), 18, 255), 19, 255), "4294967295 chunks"},
		"a byte more":                {append(good(), 0), "2 chunks"},
		"image without chunks":       {index(1), "1 bytes in 0 chunks"},
		"image too large":            {index(top, 0, 0), "1 chunks"},
		"image of 2^63":              {index(1<<63, 0, 0), "1 chunks"},
		"image smaller than a chunk": {index(4096, 0, 0, 100, 4096), "chunk 1"},
		"overlap in the blob":        {index(8192, 100, 0, 100, 4096), "chunk 0"},
		"backwards in the blob":      {index(8192, 100, 0, 99, 4096), "chunk 0"},
		"overlap in the image":       {index(8192, 0, 0, 100, 0), "chunk 0"},
		"backwards in the image":     {index(12288, 0, 4096, 100, 0), "chunk 0"},
		"in the index":               {index(8192, 0, 0, at, 4096), "chunk 1"},
		"behind the blob":            {index(8192, 0, 0, 1<<40, 4096), "chunk 1"},
		"overflow in the blob":       {index(8192, top, 0, 100, 4096), "chunk 0"},
		"overflow in the image":      {index(8192, 0, top, 100, 4096), "chunk 0"},
		"begins late":                {index(8192, 0, 1, 100, 4096), "begins at 1"},
		"chunk too large":            {index(17<<20+1, 0, 0, 1, 17<<20), "chunk 0 is larger"},
	} {
		blob, size, x := indexed(at, c.index)
		if got, err := erofs.ReadChunkIndex(blob, size, x); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, %v; want an error that says %q", name, got, err, c.says)
		}
	}
	blob, size, x = indexed(at, good())
	for name, x := range map[string]erofs.ChunkIndex{
		"end behind the blob":  {Offset: x.Offset, End: x.End + 1, Digest: x.Digest},
		"offset below zero":    {Offset: -1, End: x.End, Digest: x.Digest},
		"offset in the frame":  {Offset: x.Offset + 8, End: x.End, Digest: x.Digest},
		"end before offset":    {Offset: x.End, End: x.Offset, Digest: x.Digest},
		"another digest":       {Offset: x.Offset, End: x.End, Digest: digest.FromString("x")},
		"a digest that is odd": {Offset: x.Offset, End: x.End, Digest: "md5:x"},
		"all that fits int64":  {Offset: math.MinInt64, End: math.MaxInt64, Digest: x.Digest},
	} {
		if _, err := erofs.ReadChunkIndex(blob, size, x); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := erofs.ReadChunkIndex(blob, size+100, erofs.ChunkIndex{Offset: size - 100, End: size + 100, Digest: x.Digest}); err == nil {
		t.Error("an index was read that the blob does not hold")
	}
}

// FuzzChunkIndex: chunks that are accepted cover the blob up to the index and the image,
// and whatever they hold, reading by them ends in bytes or an error.
func FuzzChunkIndex(f *testing.F) {
	f.Add(int64(1000), index(8192, 0, 0, 100, 4096))
	f.Add(int64(0), index(0))
	f.Add(int64(5), index(1<<63, 1<<63, 0, 1, 1<<63))
	f.Fuzz(func(t *testing.T, at int64, b []byte) {
		if at < 0 || at > 1<<16 || len(b) > 1<<16 {
			return
		}
		blob, size, x := indexed(at, b)
		chunks, err := erofs.ReadChunkIndex(blob, size, x)
		if err != nil {
			return
		}
		end, image := int64(-1), int64(0)
		for i, c := range chunks {
			if c.Size <= 0 || c.ImageSize <= 0 || c.ImageOffset != image || end >= 0 && c.Offset != end {
				t.Fatalf("chunk %d is %+v and the one before it ends at %d and %d", i, c, end, image)
			}
			end, image = c.Offset+c.Size, c.ImageOffset+c.ImageSize
		}
		if len(chunks) > 0 && end != at {
			t.Fatalf("the chunks end at %d and the index begins at %d", end, at)
		}
		r, err := erofs.OpenChunks(blob, size, x)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := r.ReadAt(make([]byte, 10), max(0, image-5)); err == nil || n > 0 {
			t.Fatalf("%d bytes of frames that are none: %v", n, err)
		}
	})
}
