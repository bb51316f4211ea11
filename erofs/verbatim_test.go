package erofs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/erofs/erofstest"
	"github.com/opencontainers/go-digest"
)

// checkTar wants the tar in the blob, byte for byte, and the same blob from every way to
// make it.
func checkTar(t *testing.T, blob, src []byte, want *erofs.Layer, opts erofs.Options) {
	t.Helper()
	if size, ok := erofs.TarSizeOf(blob[:4096]); !ok || size != int64(len(src)) {
		t.Errorf("the image says that its tar has %d bytes (%v), want %d", size, ok, len(src))
	}
	if !bytes.HasPrefix(blob[4096:], src) {
		t.Error("the tar is not in the blob from byte 4096 on")
	}
	if len(src) == 0 {
		return
	}
	opts.TarSize = int64(len(src))
	var streamed bytes.Buffer
	l, err := erofs.Stream(t.Context(), &streamed, bytes.NewReader(src), opts)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, l); d != "" {
		t.Errorf("streamed (-want +got):\n%s", d)
	}
	if !bytes.Equal(streamed.Bytes(), blob) {
		t.Error("the streamed blob has other bytes")
	}
}

// unreadable is a File that cannot be read back, or written out of order.
type unreadable struct {
	*os.File
	end int64
}

func (u *unreadable) ReadAt([]byte, int64) (int, error) { return 0, errors.New("read back") }

func (u *unreadable) WriteAt(p []byte, off int64) (int, error) {
	if off != u.end {
		return 0, fmt.Errorf("written at %d instead of %d", off, u.end)
	}
	u.end += int64(len(p))
	return u.File.WriteAt(p, off)
}

// Where the size is known nothing is written twice and nothing read back; where it is
// not, or not right, both is.
func TestTarInOnePass(t *testing.T) {
	src := oddLayer(t)
	for size, once := range map[int64]bool{int64(len(src)): true, 0: false, int64(len(src)) - 512: false, int64(len(src)) + 1: false} {
		f, err := os.Create(t.TempDir() + "/blob")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		_, err = erofs.Convert(t.Context(), &unreadable{File: f}, bytes.NewReader(src), erofs.Options{Profile: erofs.ProfileTar, TarSize: size})
		if (err == nil) != once {
			t.Errorf("told a size of %d for one of %d: got %v", size, len(src), err)
		}
	}
}

func TestStreamOfAnotherSize(t *testing.T) {
	src := oddLayer(t)
	for _, size := range []int64{512, int64(len(src)) - 1, int64(len(src)) + 512} {
		var sent bytes.Buffer
		_, err := erofs.Stream(t.Context(), &sent, bytes.NewReader(src), erofs.Options{Profile: erofs.ProfileTar, TarSize: size})
		if !errors.Is(err, erofs.ErrTarSize) {
			t.Errorf("told a size of %d for one of %d: got %v, want ErrTarSize", size, len(src), err)
		}
		if int64(sent.Len()) > 4096+max(size, int64(len(src))) {
			t.Errorf("told a size of %d: %d bytes sent", size, sent.Len())
		}
	}
	for _, opts := range []erofs.Options{{}, {Profile: erofs.ProfileTar}, {TarSize: 512}} {
		if _, err := erofs.Stream(t.Context(), io.Discard, bytes.NewReader(src), opts); err == nil {
			t.Errorf("%+v is streamed", opts)
		}
	}
}

// TestTarGolden holds the bytes still: a change here needs a new WriterVersion.
func TestTarGolden(t *testing.T) {
	_, l := mustConvert(t, oddLayer(t), erofs.Options{Profile: erofs.ProfileTar})
	const want = "sha256:9404cd4afe23d21a413716cfe3a494f4efdec610091436d52b961101634507fa"
	if l.Digest != want {
		t.Errorf("got %s, want %s: if the format was meant to change, change erofs.WriterVersion", l.Digest, want)
	}
}

// Data of a sparse file stays where the tar has it if it lies in whole blocks, and is
// expanded behind the metadata if not.
func TestTarSparse(t *testing.T) {
	const mega = 1 << 20
	block := func(off int64, n int) sparsePiece { return sparsePiece{off, strings.Repeat("d", n)} }
	for name, tc := range map[string]struct {
		file   []byte
		mapped bool
	}{
		"blocks":              {gnuSparse("f", 10*mega, block(4096, 8192), block(5*mega, 4096)), true},
		"last ends anywhere":  {gnuSparse("f", 5*mega+7, block(4096, 8192), block(5*mega, 7)), true},
		"no holes":            {gnuSparse("f", 70001, block(0, 70001)), true},
		"touching":            {gnuSparse("f", mega, block(0, 300), block(300, 65236), block(128<<10, 4096)), true},
		"nothing but a hole":  {gnuSparse("f", 5*mega), true},
		"odd length":          {gnuSparse("f", 10*mega, block(4096, 8191), block(5*mega, 512)), false},
		"odd place":           {gnuSparse("f", 10*mega, block(4097, 8192), block(5*mega, 512)), false},
		"index is too costly": {gnuSparse("f", 60*mega, block(4096, 512), block(32*mega+512, 512)), false},
	} {
		t.Run(name, func(t *testing.T) {
			src := rawTar(file512("before"), tc.file, file512("after"))
			checkImage(t, src, erofs.Options{})
			_, l := mustConvert(t, src, erofs.Options{Profile: erofs.ProfileTar})
			if mapped := l.Metadata.Offset+l.Metadata.Size == l.ImageSize; mapped != tc.mapped {
				t.Errorf("the data stays in the tar: %v, want %v", mapped, tc.mapped)
			}
			if most := int64(len(src)) + 200<<10; l.ImageSize > most {
				t.Errorf("%d bytes, want at most %d: holes were written out, or their index", l.ImageSize, most)
			}
		})
	}
}

func file512(name string) []byte { return rawEntry('0', name, strings.Repeat(name, 100), nil) }

// Many pieces of a sparse file wait in a temporary file, which is gone afterwards.
func TestTarSpill(t *testing.T) {
	piece := strings.Repeat("0123456789abcde\n", 3<<16) // 3 MiB
	src := rawTar(gnuSparse("a", 100<<20, sparsePiece{1, piece}, sparsePiece{50 << 20, piece}, sparsePiece{90<<20 + 1, piece}),
		file512("between"), gnuSparse("b", 100<<20, sparsePiece{1, piece}, sparsePiece{50 << 20, piece}))
	dir := t.TempDir()
	checkImage(t, src, erofs.Options{TempDir: dir})
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if _, _, err := convert(t, bytes.NewReader(src), erofs.Options{Profile: erofs.ProfileTar, TempDir: dir + "/missing"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want that there is no place for it", err)
	}
}

// The contents of lower files are in no tar.
func TestTarLower(t *testing.T) {
	body := strings.Repeat("lower ", 3000)
	opened := 0
	lower := erofs.LowerFile{Attr: erofs.Attr{Mode: 0o640}, Size: int64(len(body)), ModTime: someTime, Digest: digest.FromString(body),
		Open: func() (io.ReadCloser, error) { opened++; return io.NopCloser(strings.NewReader(body)), nil }}
	empty := lower
	empty.Size, empty.Digest, empty.Open = 0, digest.FromString(""), func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("")), nil }
	opts := erofs.Options{Profile: erofs.ProfileTar, Context: &erofs.Context{Links: map[string]erofs.LowerFile{"low": lower, "none": empty}}}
	f, _ := mustConvert(t, makeTar(t, hardlink("a", "low"), file("mine", "x"), hardlink("b", "low"), hardlink("c", "none")), opts)
	erofstest.Fsck(t, f.Name())
	got, err := erofstest.FromImage(f)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := got["a"], got["b"]; a.Sum != b.Sum || a.Sum == got["mine"].Sum || a.Size != int64(len(body)) || a.Same != b.Same || a.Nlink != 2 {
		t.Errorf("got %+v and %+v", a, b)
	}
	if opened != 1 {
		t.Errorf("opened %d times", opened)
	}
	lower.Digest = digest.FromString("other")
	opts.Context.Links["low"] = lower
	if _, _, err := convert(t, bytes.NewReader(makeTar(t, hardlink("a", "low"))), opts); err == nil || !strings.Contains(err.Error(), "copy up low") {
		t.Errorf("got %v, want that low is not what its digest says", err)
	}
}
