package cimfs_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/test/wine/winlayer"
)

var update = flag.Bool("update", false, "write the plans in testdata anew")

// TestPlan has the plans of small layers as text. test/wine compares such plans with the calls
// that hcsshim makes, with all that is in them.
func TestPlan(t *testing.T) {
	for name, layer := range map[string][]byte{"base": winlayer.Base(), "child": winlayer.Child(), "top": winlayer.Top(), "copied": winlayer.Copied()} {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			l, err := cimfs.Plan(t.Context(), bytes.NewReader(layer), name == "base", func(c cimfs.Call) error {
				_, err := fmt.Fprintln(&got, c)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Err(); err != nil {
				t.Errorf("refused: %v", err)
			}
			if want := digest.FromBytes(layer); l.DiffID != want {
				t.Errorf("diff ID %s, want %s", l.DiffID, want)
			}
			golden := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

// TestProblems is what a layer is refused for, and what is only said of it.
func TestProblems(t *testing.T) {
	raw := func(h tar.Header, content string) func(*winlayer.Layer) {
		return func(l *winlayer.Layer) { l.Raw(h, []byte(content)) }
	}
	for name, c := range map[string]struct {
		add     func(*winlayer.Layer)
		path    string
		text    string
		allowed bool
	}{
		"stream":            {func(l *winlayer.Layer) { l.File("Files/a", nil); l.Stream("Files/a", ":b", []byte("x")) }, "Files/a:b", "alternate data stream", false},
		"opaque":            {raw(tar.Header{Name: "Files/.wh..wh..opq", Typeflag: tar.TypeReg}, ""), "Files/.wh..wh..opq", "opaque", false},
		"device":            {raw(tar.Header{Name: "Files/null", Typeflag: tar.TypeChar}, ""), "Files/null", "type", false},
		"absolute":          {func(l *winlayer.Layer) { l.File("/Files/a", nil) }, "/Files/a", "plain path", false},
		"dots":              {func(l *winlayer.Layer) { l.File("Files/../a", nil) }, "Files/../a", "plain path", false},
		"backslash":         {func(l *winlayer.Layer) { l.File(`Files/a\b`, nil) }, `Files/a\b`, "backslash", false},
		"colon":             {func(l *winlayer.Layer) { l.File("Files/a:b", nil) }, "Files/a:b", "colon", false},
		"twice":             {func(l *winlayer.Layer) { l.File("Files/a", nil); l.File("Files/A", nil) }, `Files\A`, "twice", false},
		"no directory":      {func(l *winlayer.Layer) { l.File("Files/b/a", nil) }, `Files\b\a`, "directory is not in the layer", false},
		"number":            {func(l *winlayer.Layer) { l.File("Files/a", nil, winlayer.Record("MSWINDOWS.fileattr", "x")) }, "Files/a", "no number", false},
		"security":          {func(l *winlayer.Layer) { l.File("Files/a", nil, winlayer.Record("MSWINDOWS.rawsd", "!")) }, "Files/a", "not base64", false},
		"long target":       {func(l *winlayer.Layer) { l.Symlink("Files/a", strings.Repeat("b", 5000)) }, "Files/a", "bytes: Windows takes", false},
		"link to directory": {func(l *winlayer.Layer) { l.Link("Files/a", "Files") }, `Files\a`, "is a directory", false},
		"two attributes": {func(l *winlayer.Layer) { l.File("Files/a", nil, winlayer.EA("A", nil), winlayer.EA("B", nil)) },
			"Files/a", "in another order", true},
		"other case": {func(l *winlayer.Layer) { l.File("Files/a", nil); l.Link("Files/b", "Files/A") }, `Files\b`, "in other letters", true},
		"utility VM": {func(l *winlayer.Layer) { l.Dir("UtilityVM") }, "UtilityVM", "does not merge", true},
	} {
		t.Run(name, func(t *testing.T) {
			l := winlayer.New()
			l.Dir("Files")
			c.add(l)
			plan, err := cimfs.Plan(t.Context(), bytes.NewReader(l.Bytes()), false, func(cimfs.Call) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			if len(plan.Problems) == 0 {
				t.Fatal("no problem was found")
			}
			if p := plan.Problems[0]; p.Path != c.path || !strings.Contains(p.Text, c.text) || p.Refused == c.allowed {
				t.Errorf("got %+v, want %q at %s, refused: %v", p, c.text, c.path, !c.allowed)
			}
			if err := plan.Err(); errors.Is(err, errdefs.ErrInvalidArgument) == c.allowed {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestBaseLacks is a base layer without what hcsshim links its hives to.
func TestBaseLacks(t *testing.T) {
	plan, err := cimfs.Plan(t.Context(), bytes.NewReader(winlayer.Copied()), true, func(cimfs.Call) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Err(); err == nil || !strings.Contains(err.Error(), "all hives") {
		t.Errorf("error %v, want one that says what is missing", err)
	}
}

// TestProblemsBounded has more of them than are kept, and one that counts behind them.
func TestProblemsBounded(t *testing.T) {
	l := winlayer.New()
	l.Dir("Files")
	for i := range 300 {
		l.File(fmt.Sprintf("Files/%d", i), nil, winlayer.EA("A", nil), winlayer.EA("B", nil))
	}
	l.File("Files/x:y", nil)
	plan, err := cimfs.Plan(t.Context(), bytes.NewReader(l.Bytes()), false, func(cimfs.Call) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if n := len(plan.Problems); n > 101 || plan.Err() == nil {
		t.Errorf("%d problems, error %v; want some hundred and the one that refuses", n, plan.Err())
	}
}

// TestTruncated reads what is no whole tar.
func TestTruncated(t *testing.T) {
	whole := winlayer.Base()
	for _, n := range []int{100, 512, 5000, len(whole) / 2} {
		_, err := cimfs.Plan(t.Context(), bytes.NewReader(whole[:n]), true, func(cimfs.Call) error { return nil })
		if n%512 != 0 && !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%d bytes of a tar: %v, want an invalid argument", n, err)
		}
	}
}

func FuzzPlan(f *testing.F) {
	f.Add(winlayer.Base(), true)
	f.Add(winlayer.Child(), false)
	f.Add(winlayer.Random(1, false), false)
	f.Fuzz(func(t *testing.T, raw []byte, base bool) {
		n := int64(0)
		l, err := cimfs.Plan(t.Context(), bytes.NewReader(raw), base, func(cimfs.Call) error { n++; return nil })
		if err == nil && l.Calls != n {
			t.Errorf("%d calls are counted, and %d were made", l.Calls, n)
		}
	})
}

func ExamplePlan() {
	l := winlayer.New()
	l.Dir("Files")
	l.File("Files/hello.txt", []byte("hello"), winlayer.Times(time.Unix(0, 0), time.Unix(0, 0), time.Unix(0, 0)))
	l.Link("Files/notepad.exe", "Files/Windows/notepad.exe")
	l.Remove("Files/License.txt")

	plan, err := cimfs.Plan(context.Background(), bytes.NewReader(l.Bytes()), false, func(c cimfs.Call) error {
		_, err := fmt.Println(c)
		return err
	})
	fmt.Println(plan.Files, plan.Bytes, err)
	// Output:
	// file Files attributes=0x10 size=0
	// file Files\hello.txt attributes=0x20 size=5
	// tombstone Files\License.txt
	// merge-link Files\notepad.exe -> Files\Windows\notepad.exe
	// 2 5 <nil>
}
