package erofs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/lithify/lithify/convert/tree"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/erofs/erofstest"
	"github.com/opencontainers/go-digest"
)

func lowerFile(content string) erofs.LowerFile {
	return erofs.LowerFile{
		Attr:    erofs.Attr{Mode: 0o4711, UID: 5, GID: 6, Xattrs: erofs.Xattrs{"security.capability": "\x01\xff", "trusted.overlay.opaque": "y"}},
		ModTime: time.Unix(-5, 7).UTC(),
		Size:    int64(len(content)),
		Digest:  digest.FromString(content),
		Open:    func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil },
	}
}

// linkLayer holds hard links to files of lower layers and uses a directory it
// does not list.
func linkLayer(t testing.TB) []byte {
	return makeTar(t,
		hardlink("usr/bin/a", "/usr/bin/lower"), hardlink("usr/bin/b", "usr/bin/lower"),
		hardlink("l", "etc/link"), hardlink("s", "run/socket"), hardlink("n", "dev/null"), hardlink("p", "run/fifo"),
		file("opt/x", "x"), dir("listed", 0o700), file("listed/y", "y"),
		file("new/.wh..wh..opq", ""), file("new/sub/z", "z"), file(".wh.reborn", ""), file("reborn/z", "z"),
	)
}

func TestUnresolvedLinks(t *testing.T) {
	want := erofs.Needs{
		Dirs:  []string{".", "new", "opt", "usr", "usr/bin"},
		Links: []string{"dev/null", "etc/link", "run/fifo", "run/socket", "usr/bin/lower"},
	}
	partly := &erofs.Context{Links: map[string]erofs.LowerFile{"usr/bin/lower": lowerFile("x")}}
	for name, c := range map[string]*erofs.Context{"no context": nil, "some": partly} {
		t.Run(name, func(t *testing.T) {
			_, _, err := convert(t, bytes.NewReader(linkLayer(t)), erofs.Options{Context: c})
			var unresolved *erofs.UnresolvedError
			if !errors.As(err, &unresolved) {
				t.Fatalf("got %v, want an UnresolvedError", err)
			}
			if d := cmp.Diff(want, unresolved.Needs); d != "" {
				t.Errorf("needs (-want +got):\n%s", d)
			}
			if !strings.Contains(err.Error(), `"dev/null"`) || !strings.Contains(err.Error(), "lithify convert") {
				t.Errorf("%q names no link or no way out", err)
			}
		})
	}
	_, _, err := convert(t, bytes.NewReader(linkLayer(t)), erofs.Options{Bottom: true})
	if refused := (*erofs.EntryError)(nil); !errors.As(err, &refused) {
		t.Errorf("bottom layer: got %v, want an EntryError", err)
	}
}

func TestContext(t *testing.T) {
	special := func(typ fs.FileMode, rdev uint32, target string) erofs.LowerFile {
		return erofs.LowerFile{Attr: erofs.Attr{Mode: 0o600}, Type: typ, Rdev: rdev, Target: target, ModTime: someTime}
	}
	c := &erofs.Context{
		Dirs: map[string]erofs.Attr{
			".":       {Mode: 0o1711, UID: 1, GID: 2, Xattrs: erofs.Xattrs{"user.root": "r"}},
			"usr/bin": {Mode: 0o700},
			"opt":     {Mode: 0o755},
			"listed":  {Mode: 0o111}, // not needed, not heeded
			"new/sub": {Mode: 0o111},
		},
		Links: map[string]erofs.LowerFile{
			"usr/bin/lower": lowerFile("from below"),
			"etc/link":      special(fs.ModeSymlink, 0, "target"),
			"run/socket":    special(fs.ModeSocket, 0, ""),
			"dev/null":      special(fs.ModeDevice|fs.ModeCharDevice, 0x103, ""),
			"run/fifo":      special(fs.ModeNamedPipe, 0, ""),
		},
	}
	f, l := mustConvert(t, linkLayer(t), erofs.Options{Context: c})
	erofstest.Fsck(t, f.Name())
	files, err := erofstest.FromImage(f)
	if err != nil {
		t.Fatal(err)
	}
	a := files["usr/bin/a"]
	a.Sum = ""
	want := tree.Entry{Mode: 0o4711, UID: 5, GID: 6, Size: 10, Nlink: 2, Mtime: time.Unix(-5, 7).UTC(), Xattrs: map[string]string{"security.capability": "\x01\xff"}, Same: "usr/bin/a"}
	if d := cmp.Diff(want, a); d != "" {
		t.Errorf("copied file (-want +got):\n%s", d)
	}
	if files["usr/bin/b"].Same != "usr/bin/a" {
		t.Error("two links to one lower file are two files")
	}
	if got := files["l"].Target; got != "target" {
		t.Errorf("copied symbolic link leads to %q", got)
	}
	for name, typ := range map[string]fs.FileMode{"s": fs.ModeSocket, "n": fs.ModeDevice | fs.ModeCharDevice, "p": fs.ModeNamedPipe} {
		if files[name].Type != typ {
			t.Errorf("%s is a %v, want %v", name, files[name].Type, typ)
		}
	}
	for name, mode := range map[string]uint16{".": 0o1711, "usr/bin": 0o700, "usr": 0o755, "listed": 0o700, "new/sub": 0o755} {
		if files[name].Mode != mode {
			t.Errorf("%s has mode %o, want %o", name, files[name].Mode, mode)
		}
	}
	if files["."].UID != 1 || files["."].Xattrs["user.root"] != "r" {
		t.Errorf("root is %+v, want the context's owner and xattr", files["."])
	}
	if len(l.Needs.Links) != 5 || len(l.Needs.Dirs) != 5 {
		t.Errorf("needs %v: a context must not hide them", l.Needs)
	}
}

// The root is as any directory: the topmost "./" counts, and a layer without one
// takes what lies below.
func TestRootOfSeveralLayers(t *testing.T) {
	below := &erofs.Context{Dirs: map[string]erofs.Attr{".": {Mode: 0o700, UID: 1, GID: 2, Xattrs: erofs.Xattrs{"user.below": "b"}}}}
	for name, tc := range map[string]struct {
		src      []byte
		mode     uint16
		uid, gid uint32
		xattrs   map[string]string
	}{
		"listed":  {makeTar(t, dir("./", 0o711).owned(3, 4).xattr("user.own", "o"), file("a", "a")), 0o711, 3, 4, map[string]string{"user.own": "o"}},
		"omitted": {makeTar(t, file("a", "a")), 0o700, 1, 2, map[string]string{"user.below": "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := mustConvert(t, tc.src, erofs.Options{Context: below})
			files, err := erofstest.FromImage(f)
			if err != nil {
				t.Fatal(err)
			}
			root := files["."]
			if root.Mode != tc.mode || root.UID != tc.uid || root.GID != tc.gid {
				t.Errorf("root is %o %d:%d, want %o %d:%d", root.Mode, root.UID, root.GID, tc.mode, tc.uid, tc.gid)
			}
			if d := cmp.Diff(tc.xattrs, root.Xattrs); d != "" {
				t.Errorf("xattrs of the root (-want +got):\n%s", d)
			}
		})
	}
}

func TestCopyUpChecksContent(t *testing.T) {
	src := makeTar(t, hardlink("a", "lower"))
	for name, spoil := range map[string]func(*erofs.LowerFile){
		"digest":  func(f *erofs.LowerFile) { f.Digest = digest.FromString("another") },
		"none":    func(f *erofs.LowerFile) { f.Digest = "" },
		"no hash": func(f *erofs.LowerFile) { f.Digest = "sha3:ab" },
		"short":   func(f *erofs.LowerFile) { f.Digest = "sha256:ab" },
		"longer":  func(f *erofs.LowerFile) { f.Size-- },
		"shorter": func(f *erofs.LowerFile) { f.Size++ },
		"closed":  func(f *erofs.LowerFile) { f.Open = nil },
		"dir":     func(f *erofs.LowerFile) { f.Type = fs.ModeDir },
	} {
		t.Run(name, func(t *testing.T) {
			lower := lowerFile("content")
			spoil(&lower)
			_, _, err := convert(t, bytes.NewReader(src), erofs.Options{Context: &erofs.Context{Links: map[string]erofs.LowerFile{"lower": lower}}})
			if err == nil || !strings.Contains(err.Error(), "copy up lower") {
				t.Errorf("got %v, want an error about the copy", err)
			}
		})
	}
}

// containerd applies entries in order: what a layer deletes later is there to be
// linked.
func TestLinkToWhatIsDeletedLater(t *testing.T) {
	src := makeTar(t, dir("d", 0o755), hardlink("l", "d/file"), file("d/.wh..wh..opq", ""))
	f, _ := mustConvert(t, src, erofs.Options{Context: &erofs.Context{Links: map[string]erofs.LowerFile{"d/file": lowerFile("linked")}}})
	fsys, err := erofs.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := fs.ReadFile(fsys, "l"); err != nil || string(b) != "linked" {
		t.Errorf("got %q, %v, want the lower file's content", b, err)
	}
}

// opaqueRoot hides what lies below and has a directory of a name from there.
func opaqueRoot(t testing.TB) []byte {
	return makeTar(t, file("tmp/x", "x"), file("stays", "new"), file(".wh..wh..opq", ""), file("late/y", "y"))
}

func TestOpaqueRoot(t *testing.T) {
	src := opaqueRoot(t)
	want := erofs.Needs{Dirs: []string{"."}, RootNames: true}
	for name, c := range map[string]*erofs.Context{"no context": nil, "another question's": {Dirs: map[string]erofs.Attr{".": {}}}} {
		_, _, err := convert(t, bytes.NewReader(src), erofs.Options{Context: c})
		var unresolved *erofs.UnresolvedError
		if !errors.As(err, &unresolved) || !strings.Contains(err.Error(), "lithify convert") {
			t.Fatalf("%s: got %v, want an UnresolvedError with a way out", name, err)
		}
		if d := cmp.Diff(want, unresolved.Needs); d != "" {
			t.Errorf("%s: needs (-want +got):\n%s", name, d)
		}
	}
	f, l := mustConvert(t, src, erofs.Options{Context: &erofs.Context{RootNames: []string{"etc", "stays", "tmp"}}})
	if d := cmp.Diff(want, l.Needs); d != "" {
		t.Errorf("needs (-want +got):\n%s", d)
	}
	files, err := erofstest.FromImage(f)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for name, e := range files {
		got[name] = e.Type.String()
		if e.Xattrs["trusted.overlay.opaque"] == "y" {
			got[name] += " opaque"
		}
	}
	const plain, opaque = "d---------", "d--------- opaque"
	if d := cmp.Diff(map[string]string{".": plain, "tmp": opaque, "tmp/x": "----------", "stays": "----------", "late": opaque, "late/y": "----------", "etc": "Dc---------"}, got); d != "" {
		t.Errorf("tree (-want +got):\n%s", d)
	}
	if f, _ := mustConvert(t, src, erofs.Options{Bottom: true}); strings.Contains(readAll(t, f), "overlay.opaque") {
		t.Error("a bottom layer has an opaque mark")
	}
	for _, name := range []string{"", ".", "..", "a/b", strings.Repeat("n", 256), "/"} {
		_, _, err := convert(t, bytes.NewReader(src), erofs.Options{Context: &erofs.Context{RootNames: []string{name}}})
		if err == nil {
			t.Errorf("a context names %q in the root, and it is taken", name)
		}
	}
}

func readAll(t *testing.T, f *os.File) string {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestRecordJSON keeps bytes that are not text.
func TestRecordJSON(t *testing.T) {
	needs := erofs.Needs{Dirs: []string{".", "ünï", "raw-\xff", "new\nline"}, Links: []string{"\xfe"}}
	c := erofs.Context{
		Dirs:  map[string]erofs.Attr{"raw-\xff": {Mode: 0o700, Xattrs: erofs.Xattrs{"user.x": "\x00\xff", "user.\xfe": ""}}, "x": {}},
		Links: map[string]erofs.LowerFile{"\xfe": lowerFile("x"), "l": {Type: fs.ModeSymlink, Target: "\xfd"}},
	}
	for _, v := range []struct{ in, out any }{
		{&needs, &erofs.Needs{}},
		{&c, &erofs.Context{}},
		{&erofs.Needs{RootNames: true}, &erofs.Needs{}},
		{&erofs.Context{RootNames: []string{"a", "\xff"}}, &erofs.Context{}},
		{&erofs.Layer{Needs: needs, Entries: 3}, &erofs.Layer{}},
	} {
		b, err := json.Marshal(v.in)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, v.out); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(v.in, v.out, cmpopts.IgnoreFields(erofs.LowerFile{}, "Open"), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s (-want +got):\n%s", b, d)
		}
	}
	var none erofs.Context
	if b, err := json.Marshal(erofs.Context{RootNames: []string{}}); err != nil || json.Unmarshal(b, &none) != nil || none.RootNames == nil {
		t.Errorf("%s, %v: an empty list became none", b, err)
	}
	if b, err := json.Marshal(erofs.Layer{}); err != nil || bytes.Contains(b, []byte("needs")) {
		t.Errorf("%s, %v: a layer without needs should not mention them", b, err)
	}
}
