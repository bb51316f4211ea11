package tree_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/lithify/lithify/convert/tree"
	"golang.org/x/sys/unix"
)

// plant makes a small tree of every kind that needs no root.
func plant(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.Mkdir(at("d"), 0o750),
		os.WriteFile(at("d/f"), []byte("hello"), 0o640),
		os.Link(at("d/f"), at("hard")),
		os.Symlink("d/f", at("soft")),
		unix.Mkfifo(at("pipe"), 0o600),
		unix.Setxattr(at("d/f"), "user.note", []byte("x"), 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"soft", "pipe", "d/f", "d", "."} {
		ts := []unix.Timespec{{Sec: 1e9}, {Sec: 1e9, Nsec: 7}}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, at(name), ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func read(t *testing.T, dir string) tree.Tree {
	t.Helper()
	files, err := tree.Read(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestDiff changes one thing of one of two equal trees, and that one alone is told.
func TestDiff(t *testing.T) {
	for name, c := range map[string]struct {
		change func(at func(string) string) error
		want   []string
	}{
		"nothing":  {func(func(string) string) error { return nil }, nil},
		"mode":     {func(at func(string) string) error { return os.Chmod(at("d"), 0o755) }, []string{`"d": mode`}},
		"time":     {func(at func(string) string) error { return os.Chtimes(at("pipe"), time.Time{}, time.Unix(1, 0)) }, []string{`"pipe": mtime`}},
		"target":   {func(at func(string) string) error { return relink(at("soft"), "d/g") }, []string{`"soft": target`}},
		"xattr":    {func(at func(string) string) error { return unix.Setxattr(at("d/f"), "user.note", []byte("y"), 0) }, []string{`"d/f": xattr user.note`, `"hard": xattr user.note`}},
		"no xattr": {func(at func(string) string) error { return unix.Removexattr(at("d/f"), "user.note") }, []string{`"d/f": xattr user.note`, `"hard": xattr user.note`}},
		"content":  {func(at func(string) string) error { return os.WriteFile(at("hard"), []byte("hallo"), 0) }, []string{`"d/f": mtime`, `"d/f": sha256`, `"hard": mtime`, `"hard": sha256`}},
		"new":      {func(at func(string) string) error { return os.Mkdir(at("d/e"), 0o755) }, []string{`"d": links`, `"d": mtime`, `"d/e": file`}},
		"gone":     {func(at func(string) string) error { return os.Remove(at("pipe")) }, []string{`".": mtime`, `"pipe": file`}},
		"no link":  {func(at func(string) string) error { return copyOver(at("d/f"), at("hard")) }, []string{`".": mtime`, `"d/f": links`, `"hard": links`, `"hard": mtime`, `"hard": inode`, `"hard": xattr user.note`}},
	} {
		t.Run(name, func(t *testing.T) {
			want, dir := read(t, plant(t)), plant(t)
			if err := c.change(func(name string) string { return filepath.Join(dir, name) }); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range tree.Diff(read(t, dir), want) {
				got = append(got, fmt.Sprintf("%q: %s", d.Path, d.Attr))
				if d.Got == d.Want {
					t.Errorf("%v says the same of both", d)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// relink makes a symbolic link lead elsewhere at the same time, in a directory of the same.
func relink(name, target string) error {
	if err := os.Remove(name); err != nil {
		return err
	}
	if err := os.Symlink(target, name); err != nil {
		return err
	}
	for _, n := range []string{name, filepath.Dir(name)} {
		ts := []unix.Timespec{{Sec: 1e9}, {Sec: 1e9, Nsec: 7}}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, n, ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	return nil
}

// copyOver puts a copy of a file in place of another.
func copyOver(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.Remove(to); err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o640)
}

func TestReadIsWhole(t *testing.T) {
	files := read(t, plant(t))
	if got, want := slices.Sorted(maps.Keys(files)), []string{".", "d", "d/f", "hard", "pipe", "soft"}; !slices.Equal(got, want) {
		t.Errorf("read %q, want %q", got, want)
	}
	if got := files["hard"]; got.Same != "d/f" || got.Nlink != 2 || got.Size != 5 || got.Mode != 0o640 || !got.Mtime.Equal(time.Unix(1e9, 7)) {
		t.Errorf("hard is %+v", got)
	}
}
