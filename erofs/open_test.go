package erofs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/erofs/erofstest"
)

// watchReader counts what is read.
type watchReader struct {
	io.ReaderAt
	read int64
}

func (w *watchReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.ReaderAt.ReadAt(p, off)
	w.read += int64(n)
	return n, err
}

func TestMetadataAlone(t *testing.T) {
	src := oddLayer(t)
	want, _, err := erofstest.FromTar(bytes.NewReader(src), false)
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range want {
		e.Sum = ""
		want[name] = e
	}
	for _, profile := range []erofs.Profile{erofs.ProfileRaw, erofs.ProfileZstd} {
		t.Run(string(profile), func(t *testing.T) {
			f, l := mustConvert(t, src, erofs.Options{Profile: profile})
			blob := &watchReader{ReaderAt: f}
			super, meta, err := erofs.ReadMetadata(blob, l)
			if err != nil {
				t.Fatal(err)
			}
			if profile == erofs.ProfileRaw && blob.read != 4096+l.Metadata.Size {
				t.Errorf("read %d bytes of the blob for %d of metadata", blob.read, l.Metadata.Size)
			}
			fsys, err := erofs.OpenMetadata(super, meta, l.Metadata)
			if err != nil {
				t.Fatal(err)
			}
			got, err := erofstest.FromFS(fsys, false)
			if err != nil {
				t.Fatal(err)
			}
			erofstest.CheckTrees(t, got, want)
			if _, err := fs.ReadFile(fsys, "big"); !errors.Is(err, erofs.ErrMetadataOnly) {
				t.Errorf("reading a file: got %v, want ErrMetadataOnly", err)
			}
		})
	}
}

func TestReadMetadataChecks(t *testing.T) {
	f, l := mustConvert(t, oddLayer(t), erofs.Options{})
	blob, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]int64{"superblock": 1024 + 60, "metadata": l.Metadata.Offset + 100} {
		spoiled := bytes.Clone(blob)
		spoiled[at] ^= 1
		if _, _, err := erofs.ReadMetadata(bytes.NewReader(spoiled), l); err == nil {
			t.Errorf("accepted a spoiled %s", name)
		}
		if name == "superblock" {
			if _, err := erofs.Open(bytes.NewReader(spoiled)); err == nil {
				t.Error("opened an image with a spoiled superblock")
			}
		}
	}
	if _, _, err := erofs.ReadMetadata(bytes.NewReader(blob[:l.Metadata.Offset]), l); err == nil {
		t.Error("accepted a blob that is cut off")
	}
}

func TestWhatLayersHide(t *testing.T) {
	f, _ := mustConvert(t, makeTar(t, file(".wh.gone", ""), file("o/.wh..wh..opq", ""), dir("d", 0o4755).xattr("system.posix_acl_access", "acl", "user.x", "1"), device("c", '3', 1, 3)), erofs.Options{})
	fsys, err := erofs.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]bool{"gone": {true, false}, "o": {false, true}, "d": {false, false}, "c": {false, false}} {
		info, err := fsys.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{erofs.IsWhiteout(info), erofs.IsOpaque(info)}; got != want {
			t.Errorf("%s: whiteout and opaque are %v, want %v", name, got, want)
		}
	}
	info, err := fsys.Lstat("d")
	if err != nil {
		t.Fatal(err)
	}
	attr, err := erofs.AttrOf(info)
	if err != nil {
		t.Fatal(err)
	}
	want := erofs.Attr{Mode: 0o4755, Xattrs: erofs.Xattrs{"system.posix_acl_access": "acl", "user.x": "1"}}
	if d := cmp.Diff(want, attr); d != "" {
		t.Errorf("attributes (-want +got):\n%s", d)
	}
}
