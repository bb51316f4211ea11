package classic_test

import (
	"encoding/binary"
	"maps"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/lithify/lithify/cimfs/classic"
	"github.com/lithify/lithify/cimfs/classictest"
)

// upcaseEnd is where the upcase table of images of classictest ends, which is left alone: it is
// most of an image, and each is one.
const upcaseEnd = 40 + 1<<17

// withMetadata is a CIM with other metadata behind the upcase table.
func withMetadata(fsys fstest.MapFS, metadata []byte, filesystem uint64) fstest.MapFS {
	fsys = maps.Clone(fsys)
	head := slices.Clone(fsys[classictest.Name].Data)
	binary.LittleEndian.PutUint64(head[56:], filesystem)
	fsys[classictest.Name] = &fstest.MapFile{Data: head}
	fsys[classictest.Metadata] = &fstest.MapFile{Data: slices.Concat(fsys[classictest.Metadata].Data[:upcaseEnd], metadata)}
	return fsys
}

// readAll reads what there is, to an end.
func readAll(t *testing.T, fsys fstest.MapFS) {
	c, err := classic.OpenFS(fsys, classictest.Name)
	if err != nil {
		return
	}
	c.Verify(t.Context())
	if n := walk(c, 1000); n > 1000 {
		t.Error("more files than there were")
	}
}

// FuzzCIM reads damaged CIMs: an error or a tree that ends, never a panic.
func FuzzCIM(f *testing.F) {
	plain, counted, fork, short := sample(), sample(), sample(), sample()
	counted.CountedStreams, fork.Fork, short.FileSize = true, true, 72
	for _, im := range []classictest.Image{plain, counted, fork, short} {
		fsys := im.FS()
		f.Add(fsys[classictest.Metadata].Data[upcaseEnd:], binary.LittleEndian.Uint64(fsys[classictest.Name].Data[56:]), im.Fork)
	}
	whole, forked := plain.FS(), fork.FS()
	f.Fuzz(func(t *testing.T, metadata []byte, filesystem uint64, fork bool) {
		fsys := whole
		if fork {
			fsys = forked
		}
		readAll(t, withMetadata(fsys, metadata, filesystem))
	})
}

// TestEveryWord has each number of the metadata wrong once.
func TestEveryWord(t *testing.T) {
	fsys := sample().FS()
	metadata := fsys[classictest.Metadata].Data[upcaseEnd:]
	filesystem := binary.LittleEndian.Uint64(fsys[classictest.Name].Data[56:])
	step := 2
	if testing.Short() {
		step = 38
	}
	for off := 0; off+4 <= len(metadata); off += step {
		for _, v := range []uint32{0, 1, 1 << 16, 1 << 31, 1<<32 - 1} {
			b := slices.Clone(metadata)
			binary.LittleEndian.PutUint32(b[off:], v)
			readAll(t, withMetadata(fsys, b, filesystem))
		}
	}
}
