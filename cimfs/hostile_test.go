package cimfs_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/test/wine/winlayer"
)

// planned plans a layer above others, of which add makes what is in Files.
func planned(t *testing.T, add func(*winlayer.Layer)) (*cimfs.Layer, error) {
	t.Helper()
	l := winlayer.New()
	l.Dir("Files")
	add(l)
	return cimfs.Plan(t.Context(), bytes.NewReader(l.Bytes()), false, func(cimfs.Call) error { return nil })
}

// TestHostile has layers that no Windows has written.
func TestHostile(t *testing.T) {
	for name, c := range map[string]struct {
		add        func(*winlayer.Layer)
		path, text string
		allowed    bool
	}{
		"control character":    {func(l *winlayer.Layer) { l.File("Files/a\x01", nil) }, "Files/a\x01", "no name in Windows", false},
		"asterisk":             {func(l *winlayer.Layer) { l.File("Files/*", nil) }, "Files/*", "no name in Windows", false},
		"no UTF-8":             {func(l *winlayer.Layer) { l.File("Files/\xff", nil) }, "Files/\xff", "no UTF-8", false},
		"long name":            {func(l *winlayer.Layer) { l.File("Files/"+strings.Repeat("😀", 128), nil) }, "Files/" + strings.Repeat("😀", 128), "255 characters", false},
		"device":               {func(l *winlayer.Layer) { l.File("Files/Nul.txt", nil) }, "Files/Nul.txt", "a device", true},
		"device in a path":     {func(l *winlayer.Layer) { l.Dir("Files/com1.d"); l.File("Files/com1.d/a", nil) }, "Files/com1.d", "a device", true},
		"superscript device":   {func(l *winlayer.Layer) { l.File("Files/Lpt².log", nil) }, "Files/Lpt².log", "a device", true},
		"console":              {func(l *winlayer.Layer) { l.File("Files/conout$", nil) }, "Files/conout$", "a device", true},
		"dot at the end":       {func(l *winlayer.Layer) { l.File("Files/a.", nil) }, "Files/a.", "at its end", true},
		"colon of a link":      {func(l *winlayer.Layer) { l.File("Files/a", nil); l.Link("Files/b:c", "Files/a") }, "Files/b:c", "colon", false},
		"colon of a whiteout":  {func(l *winlayer.Layer) { l.Remove("Files/a:b") }, "Files/a:b", "colon", false},
		"target up":            {func(l *winlayer.Layer) { l.Link("Files/a", "../b") }, "../b", "plain path", false},
		"target with \\":       {func(l *winlayer.Layer) { l.Link("Files/a", `Files\..\b`) }, `Files\..\b`, "backslash", false},
		"removes nothing":      {func(l *winlayer.Layer) { l.Remove("Files/") }, "Files/.wh.", "whiteout of no name", false},
		"removes .":            {func(l *winlayer.Layer) { l.Remove("Files/.") }, "Files/.", "plain path", false},
		"removes ..":           {func(l *winlayer.Layer) { l.Remove("Files/..") }, "Files/..", "plain path", false},
		"removed and there":    {func(l *winlayer.Layer) { l.File("Files/a", nil); l.Remove("Files/A") }, `Files\A`, "twice", false},
		"hive that is a link":  {func(l *winlayer.Layer) { l.Dir("Hives"); l.Symlink("Hives/SYSTEM_DELTA", "x") }, "Hives/SYSTEM_DELTA", "no file", false},
		"hive that is a dir":   {func(l *winlayer.Layer) { l.Dir("Hives"); l.Dir("Hives/SYSTEM_DELTA") }, "Hives/SYSTEM_DELTA", "no file", false},
		"no descriptor":        {func(l *winlayer.Layer) { l.File("Files/a", nil, winlayer.SD([]byte("hello"))) }, "Files/a", "security descriptor", false},
		"descriptor elsewhere": {func(l *winlayer.Layer) { l.File("Files/a", nil, winlayer.SD(owner(1<<20))) }, "Files/a", "security descriptor", false},
		"long descriptor":      {func(l *winlayer.Layer) { l.File("Files/a", nil, winlayer.SD(append(owner(0), make([]byte, 1<<16)...))) }, "Files/a", "security descriptor", false},
		"long attributes": {func(l *winlayer.Layer) { l.File("Files/a", nil, winlayer.EA("A", make([]byte, 65535))) },
			"Files/a", "extended attributes", false},
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := planned(t, c.add)
			if err != nil {
				t.Fatal(err)
			}
			if len(plan.Problems) == 0 {
				t.Fatal("no problem was found")
			}
			if p := plan.Problems[0]; p.Path != c.path || !strings.Contains(p.Text, c.text) || p.Refused == c.allowed {
				t.Errorf("got %+v, want %q at %q, refused: %v", p, c.text, c.path, !c.allowed)
			}
		})
	}
}

// owner is a security descriptor whose owner is at an offset.
func owner(off uint32) []byte {
	b := bytes.Clone(winlayer.Everyone)
	b[4], b[5], b[6], b[7] = byte(off), byte(off>>8), byte(off>>16), byte(off>>24)
	return b
}

// TestEnds has layers that are not read to their end: what they say of themselves would take
// memory, or a disk, that the layer itself does not have to have.
func TestEnds(t *testing.T) {
	if h, err := tar.NewReader(bytes.NewReader(winlayer.Holes())).Next(); err != nil || h.Size != 1<<62 {
		t.Fatalf("a hole of 4 EiB: %+v, %v", h, err)
	}
	for name, c := range map[string]struct {
		layer []byte
		says  string
	}{
		"long path": {layerOf(func(l *winlayer.Layer) { l.File("Files/"+strings.Repeat("a/", 20000)+"b", nil) }), "characters"},
		"sparse":    {winlayer.Holes(), "sparse"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := cimfs.Plan(t.Context(), bytes.NewReader(c.layer), false, func(cimfs.Call) error { return nil })
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want an invalid argument that says %q", err, c.says)
			}
		})
	}
}

func layerOf(add func(*winlayer.Layer)) []byte {
	l := winlayer.New()
	add(l)
	return l.Bytes()
}

// TestCut cuts a layer off everywhere: what is no whole tar is the layer's fault (package tar
// does not miss its end), and what cannot be read is not.
func TestCut(t *testing.T) {
	whole := winlayer.Child()
	lost := errors.New("connection lost")
	for n := 1; n < len(whole)-1024; n += 97 {
		_, err := cimfs.Plan(t.Context(), bytes.NewReader(whole[:n]), false, func(cimfs.Call) error { return nil })
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("%d bytes of a tar: %v, want an invalid argument or none", n, err)
		}
		_, err = cimfs.Plan(t.Context(), io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(lost)), false, func(cimfs.Call) error { return nil })
		if !errors.Is(err, lost) || errdefs.IsInvalidArgument(err) {
			t.Errorf("an error after %d bytes: %v, want that and no invalid argument", n, err)
		}
	}
}
