package proof_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/lithify/lithify/convert/proof"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/erofs/verity"
	"github.com/opencontainers/go-digest"
)

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{9}).Read(b)
	return b
}

// TestVerityTree: the roots of trees of no, one, two and three levels are those that the writer
// has, and a bit that is flipped anywhere, of data or tree, is seen.
func TestVerityTree(t *testing.T) {
	for _, blocks := range []int{1, 2, 128, 129, 128*128 + 1} {
		data := noise(blocks * 4096)
		made := verity.NewTree(t.TempDir())
		if _, err := made.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := made.Finish(data[:4096]); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		b.Write(data)
		if err := errors.Join(made.Append(&b, [16]byte{1}), made.Close()); err != nil {
			t.Fatal(err)
		}
		image := b.Bytes()
		read := func() (*proof.VerityTree, digest.Digest, error) {
			tree, err := proof.ReadVerity(bytes.NewReader(image), int64(len(data)))
			if err != nil {
				return nil, "", err
			}
			root, err := tree.Root(t.Context(), bytes.NewReader(image))
			return tree, root, err
		}
		tree, root, err := read()
		if err != nil || root != made.Root() {
			t.Fatalf("%d blocks: %s, want %s; %v", blocks, root, made.Root(), err)
		}
		if top, err := tree.Top(bytes.NewReader(image)); err != nil || top != root {
			t.Errorf("%d blocks: top %s, want %s; %v", blocks, top, root, err)
		}
		if tree.End() != int64(len(image)) {
			t.Errorf("%d blocks: the tree ends at %d of %d", blocks, tree.End(), len(image))
		}
		for _, at := range []int{0, len(data) - 1, len(data) + 4096, len(image) - 4096} {
			if at >= len(image) || at == len(image)-4096 && blocks == 1 {
				continue
			}
			image[at] ^= 1
			_, got, err := read()
			if data := at < len(data); data && got == root || !errors.As(err, new(*proof.TreeError)) && blocks > 1 {
				t.Errorf("%d blocks, a bit at %d: root %s, %v", blocks, at, got, err)
			}
			image[at] ^= 1
		}
	}
}

// TestVeritySuperblock: what a superblock says is not believed.
func TestVeritySuperblock(t *testing.T) {
	f, l := convert(t, oddTar(t), erofs.Options{Verity: true})
	image, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	at := l.Verity.HashOffset
	if _, err := proof.ReadVerity(bytes.NewReader(image), at); err != nil {
		t.Fatal(err)
	}
	for name, off := range map[string]int64{"magic": 0, "version": 8, "type": 12, "algorithm": 32, "block size": 65, "hash block size": 69, "count": 76, "salt": 81} {
		image[at+off] ^= 0xff
		if _, err := proof.ReadVerity(bytes.NewReader(image), at); err == nil {
			t.Errorf("another %s is taken", name)
		}
		image[at+off] ^= 0xff
	}
	if _, err := proof.ReadVerity(bytes.NewReader(image), int64(len(image))-100); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: %v", err)
	}
}

func TestFSVerity(t *testing.T) {
	for _, n := range []int{0, 1, 4096, 4097, 128 * 4096, 3 << 20} {
		data := noise(n)
		want := verity.NewFileDigest()
		want.Write(data)
		d, err := proof.FSVerity(t.Context(), bytes.NewReader(data), int64(n))
		if w := want.Digest(); err != nil || d != w {
			t.Errorf("%d bytes: %s, want %s; %v", n, d, w, err)
		}
	}
}
