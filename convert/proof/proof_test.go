package proof_test

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lithify/lithify/convert/frames"
	"github.com/lithify/lithify/convert/overlay"
	"github.com/lithify/lithify/convert/proof"
	"github.com/lithify/lithify/convert/tree"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/test/corpus"
	"github.com/opencontainers/go-digest"
)

func convert(t testing.TB, src []byte, opts erofs.Options) (*os.File, *erofs.Layer) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "layer"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	l, err := erofs.Convert(t.Context(), f, bytes.NewReader(src), opts)
	if err != nil {
		t.Fatal(err)
	}
	return f, l
}

// compare reads src and compares an image with it.
func compare(t testing.TB, src []byte, image io.ReaderAt, opts erofs.Options) (*proof.Tar, error) {
	t.Helper()
	p := proof.NewTar(opts.Bottom)
	if err := p.Read(bytes.NewReader(src)); err != nil {
		t.Fatal(err)
	}
	return p, p.Compare(t.Context(), image, opts.Context, nil)
}

func oddTar(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := corpus.WriteOdd(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type entry struct {
	tar.Header
	content string
}

func makeTar(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.content))
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1e9, 7)
		}
		h.Format = tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestOdd compares a layer of whatever tars have, in each form that it is written in.
func TestOdd(t *testing.T) {
	src := oddTar(t)
	for name, opts := range map[string]erofs.Options{
		"bottom": {Bottom: true},
		"upper":  {},
		"told":   {Context: &erofs.Context{Dirs: map[string]erofs.Attr{".": {Mode: 0o700, UID: 7, Xattrs: erofs.Xattrs{"user.x": "y"}}}}},
		"zstd":   {Profile: erofs.ProfileZstd},
		"tar":    {Profile: erofs.ProfileTar},
	} {
		t.Run(name, func(t *testing.T) {
			f, l := convert(t, src, opts)
			image := io.ReaderAt(f)
			if opts.Profile == erofs.ProfileZstd {
				r, err := frames.Open(f, l.Size)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				image = r
			}
			p, err := compare(t, src, image, opts)
			var differ *proof.DifferError
			if errors.As(err, &differ) {
				for _, d := range differ.Differences {
					t.Error(d)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			if n := p.Needs(); !slices.Equal(n.Dirs, l.Needs.Dirs) || !slices.Equal(n.Links, l.Needs.Links) || n.RootNames != l.Needs.RootNames {
				t.Errorf("needs: got %+v, want %+v", n, l.Needs)
			}
			if p.Entries != l.Entries || p.Entries < 100 {
				t.Errorf("%d entries, want %d", p.Entries, l.Entries)
			}
		})
	}
}

var small = []entry{
	{tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, ""},
	{tar.Header{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o711, Uid: 3}, ""},
	{tar.Header{Name: "dir/file", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 1000, Gid: 1001, PAXRecords: map[string]string{
		"SCHILY.xattr.user.note": "value-of-note", "SCHILY.xattr.system.posix_acl_access": "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff",
	}}, strings.Repeat("content of a file\n", 1000)},
	{tar.Header{Name: "dir/other", Typeflag: tar.TypeLink, Linkname: "dir/file"}, ""},
	{tar.Header{Name: "empty", Typeflag: tar.TypeReg, Mode: 0o600}, ""},
	{tar.Header{Name: "soft", Typeflag: tar.TypeSymlink, Linkname: "dir/target", Mode: 0o777}, ""},
	{tar.Header{Name: "tty", Typeflag: tar.TypeChar, Devmajor: 4, Devminor: 300, Mode: 0o620}, ""},
	{tar.Header{Name: "unlisted/x", Typeflag: tar.TypeReg, Mode: 0o644}, "x"},
	{tar.Header{Name: ".wh.deleted", Typeflag: tar.TypeReg}, ""},
}

// TestDamaged changes one thing of an image at a time, as a writer at fault would.
func TestDamaged(t *testing.T) {
	src := makeTar(t, small...)
	f, l := convert(t, src, erofs.Options{})
	whole, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := compare(t, src, bytes.NewReader(whole), erofs.Options{}); err != nil {
		t.Fatal(err)
	}
	inode := func(name string) int64 { return inodeOf(t, whole, l, name) }
	find := func(what string) int64 {
		i := bytes.Index(whole[l.Metadata.Offset:], []byte(what))
		if i < 0 {
			t.Fatalf("no %q in the metadata", what)
		}
		return l.Metadata.Offset + int64(i)
	}
	for name, c := range map[string]struct {
		at   int64
		want string
	}{
		"first block of data": {4096, "sha256"},
		"last byte of data":   {4096 + 18_000 - 1, "sha256"},
		"mode":                {inode("dir/file") + 4, "mode"},
		"type":                {inode("dir/file") + 5, ""}, // of the bits above permissions
		"size":                {inode("dir/file") + 8, "size"},
		"place of the data":   {inode("unlisted/x") + 16, ""},
		"device":              {inode("tty") + 16, "device"},
		"owner":               {inode("dir") + 24, "uid"},
		"group":               {inode("dir/file") + 28, "gid"},
		"time":                {inode("soft") + 32, "mtime"},
		"nanoseconds":         {inode("soft") + 40, "mtime"},
		"links":               {inode("dir/file") + 44, "links"},
		"xattr's name":        {find("note"), "xattr"},
		"xattr's value":       {find("value-of-note"), "xattr"},
		"ACL":                 {find("\x02\x00\x00\x00\x01\x00\x06\x00") + 6, "xattr system.posix_acl_access"},
		"target":              {find("dir/target"), "target"},
		"name":                {find("unlisted"), "file"},
		"whiteout's name":     {find("deleted"), "file"},
		"superblock":          {1024 + 36, "image"},
	} {
		t.Run(name, func(t *testing.T) {
			damaged := bytes.Clone(whole)
			damaged[c.at] ^= 1
			_, err := compare(t, src, bytes.NewReader(damaged), erofs.Options{})
			var differ *proof.DifferError
			if !errors.As(err, &differ) {
				t.Fatalf("got %v, want a difference", err)
			}
			if !slices.ContainsFunc(differ.Differences, func(d tree.Difference) bool { return strings.Contains(d.String(), c.want) }) {
				t.Errorf("got %v, want one of %s", differ.Differences, c.want)
			}
		})
	}
}

// inodeOf is where a file's inode is in an image (Linux fs/erofs/erofs_fs.h).
func inodeOf(t *testing.T, image []byte, l *erofs.Layer, name string) int64 {
	t.Helper()
	fsys, err := erofs.Open(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	info, err := fsys.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	number := info.(interface{ Ino() uint64 }).Ino()
	at := l.Metadata.Offset + int64(number)*32
	if got := binary.LittleEndian.Uint16(image[at:]) & 1; got != 1 {
		t.Fatalf("no extended inode at %d", at)
	}
	return at
}

// TestStack applies layers that delete, empty, replace and link, and compares them with what
// overlayfs makes of what was converted of them.
func TestStack(t *testing.T) {
	dir := func(name string, mode int64) entry {
		return entry{tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode}, ""}
	}
	file := func(name, content string) entry {
		return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, content}
	}
	tars := [][]byte{
		makeTar(t, dir("./", 0o755), dir("etc/", 0o700), file("etc/old", "0"), file("etc/kept", "0"), dir("opt/", 0o750), file("opt/hidden", "0"), dir("d/", 0o755), file("d/x", "0"), file("f", "0")),
		makeTar(t, file("etc/new", "1"), file("etc/.wh.old", ""), file("opt/.wh..wh..opq", ""), file("opt/shown", "1"), file(".wh.d", ""), file("f/now", "1")),
		makeTar(t, entry{tar.Header{Name: "etc/link", Typeflag: tar.TypeLink, Linkname: "etc/kept"}, ""}, file("d/again", "2")),
	}
	var contexts []*erofs.Context
	applied := proof.NewApplied()
	var layers []proof.Layer
	var view overlay.FS
	for i, src := range tars {
		p := proof.NewTar(i == 0)
		if err := p.Read(bytes.NewReader(src)); err != nil {
			t.Fatal(err)
		}
		c, err := applied.Context(p)
		if err != nil {
			t.Fatal(err)
		}
		for target, f := range c.Links {
			f.Open = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("0")), nil }
			c.Links[target] = f
		}
		contexts = append(contexts, c)
		image, l := convert(t, src, erofs.Options{Bottom: i == 0, Context: c})
		if err := p.Compare(t.Context(), image, c, nil); err != nil {
			t.Fatalf("layer %d: %v", i, err)
		}
		applied.Apply(p)
		fsys, err := erofs.Open(image)
		if err != nil {
			t.Fatal(err)
		}
		view = append(overlay.FS{fsys}, view...)
		layers = append(layers, proof.Layer{FS: fsys, Needs: l.Needs, Context: c})
	}
	if n, err := applied.Compare(t.Context(), view); err != nil || n != 11 {
		t.Errorf("tars: %d files, %v", n, err)
	}
	if n, err := proof.Stack(t.Context(), layers); err != nil || n != 11 {
		t.Errorf("layers: %d files, %v", n, err)
	}
	if contexts[1].Dirs["etc"].Mode != 0o700 || contexts[2].Links["etc/kept"].Digest != digest.FromString("0") {
		t.Errorf("contexts: %+v", contexts)
	}

	// A layer that was made without looking below, or for another place, is found.
	wrong := func(name string, i int, opts erofs.Options, want string) {
		t.Helper()
		image, l := convert(t, tars[i], opts)
		fsys, err := erofs.Open(image)
		if err != nil {
			t.Fatal(err)
		}
		bad := slices.Clone(layers)
		bad[i] = proof.Layer{FS: fsys, Needs: l.Needs, Context: opts.Context}
		_, err = proof.Stack(t.Context(), bad)
		var differ *proof.DifferError
		if !errors.As(err, &differ) || !strings.Contains(fmt.Sprint(differ.Differences), want) {
			t.Errorf("%s: %v, want one that names %q", name, err, want)
		}
	}
	wrong("no context", 1, erofs.Options{}, `"opt": mode is 0755, want 0750`)
	stale := *contexts[2]
	stale.Links = map[string]erofs.LowerFile{"etc/kept": contexts[2].Links["etc/kept"]}
	other := stale.Links["etc/kept"]
	other.UID = 5
	stale.Links["etc/kept"] = other
	wrong("another file", 2, erofs.Options{Context: &stale}, `"etc/kept"`)
	if _, err := fs.Stat(layers[0].FS, "etc"); err != nil {
		t.Error(err)
	}
}

func TestRootOpaque(t *testing.T) {
	src := makeTar(t, entry{tar.Header{Name: ".wh..wh..opq", Typeflag: tar.TypeReg}, ""}, entry{tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755}, ""})
	opts := erofs.Options{Context: &erofs.Context{RootNames: []string{"a", "d"}}}
	f, _ := convert(t, src, opts)
	if _, err := compare(t, src, f, opts); err != nil {
		t.Error(err)
	}
	opts.Context.RootNames = []string{"a", "b", "d"}
	if _, err := compare(t, src, f, opts); err == nil {
		t.Error("one name more is hidden, and nobody has seen it")
	}
}

// FuzzCompare has the writer and this package read any tar: what the writer takes and
// archive/tar reads is the same.
func FuzzCompare(f *testing.F) {
	f.Add(makeTar(f, small...), false)
	f.Add(makeTar(f, small...), true)
	f.Fuzz(func(t *testing.T, src []byte, bottom bool) {
		var dst memFile
		opts := erofs.Options{Bottom: bottom, Limits: erofs.Limits{Bytes: 1 << 24, FileBytes: 1 << 22, MetaBytes: 1 << 22}}
		if _, err := erofs.Convert(t.Context(), &dst, bytes.NewReader(src), opts); err != nil {
			return
		}
		p := proof.NewTar(bottom)
		if err := p.Read(bytes.NewReader(src)); err != nil {
			t.Fatalf("the writer takes it: %v", err)
		}
		if err := p.Compare(t.Context(), bytes.NewReader(dst.b), nil, nil); err != nil {
			t.Fatal(err)
		}
	})
}

// memFile is an erofs.File in memory.
type memFile struct{ b []byte }

func (m *memFile) Write([]byte) (int, error) { return 0, errors.ErrUnsupported }
func (m *memFile) WriteAt(p []byte, off int64) (int, error) {
	if n := int(off) + len(p); n > len(m.b) {
		m.b = append(m.b, make([]byte, n-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}
func (m *memFile) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(m.b)) {
		return 0, io.EOF
	}
	n := copy(p, m.b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
