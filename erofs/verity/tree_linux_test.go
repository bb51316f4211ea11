package verity_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	dmverity "github.com/containerd/go-dmverity/pkg/verity"
	"github.com/lithify/lithify/erofs/verity"
)

// TestTree compares with what containerd's go-dmverity writes, byte for byte.
func TestTree(t *testing.T) {
	for _, n := range blockCounts() {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			data := randomData(n * verity.BlockSize)
			path, root := formatted(t, verity.NewTree(""), data)
			want, wantRoot := theirs(t, data)
			if root != wantRoot {
				t.Errorf("root %s, want %s", root, wantRoot)
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Error("the file differs from go-dmverity's")
			}
		})
	}
}

// theirs is what go-dmverity makes of data, with the options containerd gives it.
func theirs(t testing.TB, data []byte) (file []byte, root string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "theirs")
	if err := os.WriteFile(path, append(bytes.Clone(data), make([]byte, verity.Size(int64(len(data))))...), 0o600); err != nil {
		t.Fatal(err)
	}
	sum, err := dmverity.Create(theirParams(len(data)), path, path)
	if err != nil {
		t.Fatal(err)
	}
	if file, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return file, fmt.Sprintf("%x", sum)
}

func theirParams(n int) *dmverity.Params {
	p := dmverity.DefaultParams()
	p.DataBlockSize, p.HashBlockSize = verity.BlockSize, verity.BlockSize
	p.DataBlocks, p.HashAreaOffset = uint64(n/verity.BlockSize), uint64(n)
	p.Salt, p.SaltSize, p.UUID = verity.Salt[:], uint16(len(verity.Salt)), someID
	return &p
}

// BenchmarkTree hashes what lies in memory, as bytes do that are on their way out.
// Its baseline is what containerd calls, on the finished file in the page cache.
func BenchmarkTree(b *testing.B) {
	data := randomData(128 << 20)
	b.Run("lithify", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			tree := verity.NewTree("")
			for off := 0; off < len(data); off += 1 << 20 {
				tree.Write(data[off : off+1<<20])
			}
			if err := tree.Finish(data[:verity.BlockSize]); err != nil {
				b.Fatal(err)
			}
			if err := tree.Append(io.Discard, someID); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("go-dmverity", func(b *testing.B) {
		path := filepath.Join(b.TempDir(), "file")
		if err := os.WriteFile(path, append(bytes.Clone(data), make([]byte, verity.Size(int64(len(data))))...), 0o600); err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			if _, err := dmverity.Create(theirParams(len(data)), path, path); err != nil {
				b.Fatal(err)
			}
		}
	})
}
