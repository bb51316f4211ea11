package erofs_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/erofs/erofstest"
	"github.com/lithify/lithify/test/corpus"
)

// Tails of any size, behind inodes with more or less before them.
func TestInlineTails(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	entries := []entry{file("fits", strings.Repeat("f", 4096-64)), file("does-not", strings.Repeat("d", 4096-63)), file("whole", strings.Repeat("w", 8192))}
	for i := range 600 {
		e := file(fmt.Sprintf("d%d/f%d", i%7, i), strings.Repeat(string(rune('a'+i%26)), r.IntN(20000)))
		if i%5 == 0 {
			e = e.xattr("user.x", strings.Repeat("x", r.IntN(5000)))
		}
		entries = append(entries, e)
	}
	src := makeTar(t, entries...)
	checkImage(t, src, erofs.Options{})
	_, plain := mustConvert(t, src, erofs.Options{})
	_, inline := mustConvert(t, src, erofs.Options{InlineTails: true})
	if saved := plain.Size - inline.Size; saved < 600*1500 {
		t.Errorf("%d bytes, only %d less than without", inline.Size, saved)
	}
}

// TestInlineGolden holds the bytes still: a change here needs a new WriterVersion.
func TestInlineGolden(t *testing.T) {
	_, l := mustConvert(t, oddLayer(t), erofs.Options{InlineTails: true})
	const want = "sha256:03ca3cd9f975cf0b558874551029426509bca6b87384f61f8b4d6c550d31fe4f"
	if l.Digest != want {
		t.Errorf("got %s, want %s: if the format was meant to change, change erofs.WriterVersion", l.Digest, want)
	}
}

// Tails that memory is not to hold wait in a temporary file, which is gone afterwards.
func TestInlineSpill(t *testing.T) {
	text := randomText(4000)
	var entries []entry
	for i := range 6000 { // some 12 MB of tails
		entries = append(entries, file(fmt.Sprintf("d%d/f%d", i%50, i), text[:i%4000]))
	}
	src := makeTar(t, entries...)
	dir := t.TempDir()
	f, _ := mustConvert(t, src, erofs.Options{InlineTails: true, TempDir: dir})
	want, _, err := erofstest.FromTar(bytes.NewReader(src), false)
	if err != nil {
		t.Fatal(err)
	}
	got, err := erofstest.FromImage(f)
	if err != nil {
		t.Fatal(err)
	}
	erofstest.CheckTrees(t, got, want)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if _, _, err := convert(t, bytes.NewReader(src), erofs.Options{InlineTails: true, TempDir: dir + "/missing"}); err == nil {
		t.Error("converted without a place for the tails")
	}
}

// TestInlineSize: images are no larger than those of mkfs.erofs 1.8.6 with its own inline
// data.
func TestInlineSize(t *testing.T) {
	for _, name := range []string{"debian", "go", "node_modules"} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "debian" {
				t.Skip("long: more layers of the same kind")
			}
			l, err := corpus.Open(t.Context(), name)
			if err != nil {
				t.Skip(err)
			}
			src, err := os.Open(l.Path(corpus.Tar))
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			_, made, err := convert(t, src, erofs.Options{InlineTails: true})
			if err != nil {
				t.Fatal(err)
			}
			image := filepath.Join(t.TempDir(), "mkfs")
			cmd := erofstest.Command(t, "mkfs.erofs", "--tar=f", "--aufs", "--quiet", "-b4096", "-T0", "--mkfs-time", image)
			if _, err := src.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			cmd.Stdin = src
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", cmd, err, out)
			}
			theirs, err := os.Stat(image)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d bytes, mkfs.erofs's image has %d (%.4f)", made.Size, theirs.Size(), float64(made.Size)/float64(theirs.Size()))
			if made.Size > theirs.Size() {
				t.Errorf("%d bytes, and mkfs.erofs's image has %d", made.Size, theirs.Size())
			}
		})
	}
}
