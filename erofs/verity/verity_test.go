package verity_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/lithify/lithify/erofs/erofstest"
	"github.com/lithify/lithify/erofs/verity"
)

var someID = uuid.MustParse("6ba7b810-9dad-11d1-80b4-00c04fd430c8")

// randomData is n bytes that differ from block to block.
func randomData(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// blockCounts lie on both sides of where a level of the tree is full.
func blockCounts() []int {
	counts := []int{1, 2, 127, 128, 129, 255}
	if !testing.Short() { // the third level takes a file of 64 MiB
		counts = append(counts, 128*128, 128*128+1)
	}
	return counts
}

// formatted is data with its tree behind it, in a file, and the root digest in hex.
// The first block is zeros while the rest is written.
func formatted(t testing.TB, tree *verity.Tree, data []byte) (path, root string) {
	t.Helper()
	write := func(p []byte) {
		if _, err := tree.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	write(make([]byte, verity.BlockSize))
	for rest, n := data[verity.BlockSize:], 1; len(rest) > 0; n = n*3%70001 + 1 {
		k := min(n, len(rest))
		write(rest[:k])
		rest = rest[k:]
	}
	if err := tree.Finish(data[:verity.BlockSize]); err != nil {
		t.Fatal(err)
	}
	file := bytes.NewBuffer(bytes.Clone(data))
	if err := tree.Append(file, someID); err != nil {
		t.Fatal(err)
	}
	if err := tree.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := int64(file.Len()-len(data)), verity.Size(int64(len(data))); got != want {
		t.Errorf("%d bytes behind the data, and Size says %d", got, want)
	}
	path = filepath.Join(t.TempDir(), "formatted")
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, tree.Root().Encoded()
}

// TestSpilled: hashes that went to a file are the same, and the file is gone.
func TestSpilled(t *testing.T) {
	data := randomData(1000 * verity.BlockSize)
	path, root := formatted(t, verity.NewTree(""), data)
	dir := t.TempDir()
	spilled, spilledRoot := formatted(t, verity.NewTreeHolding(dir, 2*verity.BlockSize), data)
	a, err1 := os.ReadFile(path)
	b, err2 := os.ReadFile(spilled)
	if err1 != nil || err2 != nil || !bytes.Equal(a, b) || root != spilledRoot {
		t.Errorf("%v, %v: the tree differs, root %s and %s", err1, err2, root, spilledRoot)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v, %v are left behind", err, left)
	}
	gone := verity.NewTreeHolding(filepath.Join(dir, "no such directory"), 0)
	if _, err := gone.Write(data); err == nil {
		t.Error("hashes were kept where no file can be made")
	}
}

func TestFinishRefuses(t *testing.T) {
	for _, n := range []int{0, 1, verity.BlockSize + 1} {
		tree := verity.NewTree("")
		if _, err := tree.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		if err := tree.Finish(make([]byte, verity.BlockSize)); err == nil {
			t.Errorf("a tree of %d bytes was made", n)
		}
	}
}

// TestVeritysetup: cryptsetup accepts the tree, and nothing that differs in a bit.
func TestVeritysetup(t *testing.T) {
	veritysetup := erofstest.Program(t, "veritysetup")
	for _, n := range blockCounts() {
		data := randomData(n * verity.BlockSize)
		path, root := formatted(t, verity.NewTree(""), data)
		verify := func() ([]byte, error) {
			return exec.CommandContext(t.Context(), veritysetup, "verify", path, path, root, fmt.Sprint("--hash-offset=", len(data))).CombinedOutput()
		}
		if out, err := verify(); err != nil {
			t.Errorf("%d blocks: %v\n%s", n, err, out)
		}
		flip(t, path, int64(rand.IntN(len(data))))
		if out, err := verify(); err == nil {
			t.Errorf("%d blocks: a flipped bit is accepted: %s", n, out)
		}
	}
}

func flip(t testing.TB, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], off); err != nil {
		t.Fatal(err)
	}
}

// TestFileDigest compares with the fsverity program.
func TestFileDigest(t *testing.T) {
	fsverity := erofstest.Program(t, "fsverity")
	sizes := []int{0, 1, 4095, 4096, 4097}
	for _, n := range blockCounts() {
		sizes = append(sizes, n*verity.BlockSize-1, n*verity.BlockSize)
	}
	for _, n := range sizes {
		data := randomData(n)
		d := verity.NewFileDigest()
		for rest := data; len(rest) > 0; {
			k := min(len(rest), 1+rand.IntN(100_000))
			d.Write(rest[:k])
			rest = rest[k:]
		}
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), fsverity, "digest", "--compact", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, want := d.Digest().Encoded(), strings.TrimSpace(string(out)); got != want {
			t.Errorf("%d bytes: %s, and fsverity says %s", n, got, want)
		}
	}
}

// TestKnownFileDigest holds where the program is missing: of an empty file, as the
// kernel's documentation defines it.
func TestKnownFileDigest(t *testing.T) {
	const empty = "sha256:3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"
	if got := verity.NewFileDigest().Digest(); got != empty {
		t.Errorf("got %s, want %s", got, empty)
	}
}
