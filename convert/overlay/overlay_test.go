package overlay_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lithify/lithify/convert/overlay"
	"github.com/lithify/lithify/erofs"
)

// layer converts names to a layer: a name with a slash at its end is a directory, one with
// "=" a file with content, one with " -> " a symbolic link, and any other an empty file.
func layer(t *testing.T, bottom bool, names ...string) fs.ReadLinkFS {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, n := range names {
		h := tar.Header{Name: n, Typeflag: tar.TypeReg, Mode: 0o644}
		content := ""
		if name, target, ok := strings.Cut(n, " -> "); ok {
			h = tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeSymlink, Mode: 0o777}
		} else if name, c, ok := strings.Cut(n, "="); ok {
			h.Name, content = name, c
		} else if strings.HasSuffix(n, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "layer"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	opts := erofs.Options{Bottom: bottom, Context: &erofs.Context{RootNames: []string{}}}
	if _, err := erofs.Convert(t.Context(), f, &b, opts); err != nil {
		t.Fatal(err)
	}
	fsys, err := erofs.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	return fsys
}

func stack(t *testing.T) overlay.FS {
	return overlay.FS{
		layer(t, false, "a/", "a/new=top", "b=file now", "d/", "d/.wh.sub", "was=x"),
		layer(t, false, "a/", "a/.wh..wh..opq", "a/mid=1", ".wh.gone", "was/", "was/below=2"),
		layer(t, true, "a/", "a/old=0", "b/", "b/hidden=0", "gone=0", "d/", "d/sub/", "d/sub/x=0", "d/kept=0", "up -> /d/../d/kept", "loop -> loop", "way -> a"),
	}
}

// TestWalk has each rule of overlayfs.
func TestWalk(t *testing.T) {
	var got []string
	f := stack(t)
	err := f.Walk(".", func(at overlay.File) error {
		line := at.Path
		if at.Info.IsDir() {
			line += "/"
		}
		got = append(got, line)
		one, err := f.Lstat(at.Path)
		if err != nil || one.Info.Mode() != at.Info.Mode() || !cmp.Equal(one.Layers, at.Layers) {
			t.Errorf("%s: looked up %v, %v; walked %v", at.Path, one, err, at)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"./", "a/", "a/mid", "a/new", "b", "d/", "d/kept", "loop", "up", "was", "way"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	for _, name := range []string{"a/old", "b/hidden", "gone", "d/sub", "d/sub/x", "was/below", "none"} {
		if _, err := f.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStat(t *testing.T) {
	f := stack(t)
	for name, want := range map[string]string{"": ".", "/": ".", "..": ".", "up": "d/kept", "way/../way/mid": "a/mid", "/a/./new": "a/new", "way": "a"} {
		if at, err := f.Stat(name); err != nil || at.Path != want {
			t.Errorf("%q: %q, %v, want %q", name, at.Path, err, want)
		}
	}
	for name, want := range map[string]error{"loop": fs.ErrInvalid, "b/x": fs.ErrNotExist, "up/x": fs.ErrNotExist, "way/old": fs.ErrNotExist} {
		if _, err := f.Stat(name); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", name, err, want)
		}
	}
}
