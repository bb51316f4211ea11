package restore

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
)

// Many who restore from one checkpoint unpack it once, and an attempt that failed or was
// killed leaves nothing that the next one would take for whole.
func TestCache(t *testing.T) {
	c := cache{filepath.Join(t.TempDir(), "checkpoints")}
	dgst := digest.FromString("x")
	broken := errors.New("broken")
	if _, _, err := c.get(t.Context(), dgst, func(dir string) error {
		return errors.Join(os.WriteFile(filepath.Join(dir, "half"), nil, 0o600), broken)
	}); !errors.Is(err, broken) {
		t.Fatalf("got %v, want what fill returned", err)
	}
	// As one leaves it that was killed while it filled.
	part := filepath.Join(c.dir, dgst.Encoded()+".part")
	if err := os.MkdirAll(filepath.Join(part, "half"), 0o700); err != nil {
		t.Fatal(err)
	}
	var fills atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			dir, release, err := c.get(t.Context(), dgst, func(dir string) error {
				fills.Add(1)
				return os.WriteFile(filepath.Join(dir, "whole"), nil, 0o600)
			})
			if err != nil {
				t.Error(err)
				return
			}
			names, err := os.ReadDir(dir)
			if err != nil || len(names) != 1 || names[0].Name() != "whole" {
				t.Errorf("%v, %v: want one file, whole", names, err)
			}
			if err := release(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := fills.Load(); n != 1 {
		t.Errorf("filled %d times, want once", n)
	}
	left, err := filepath.Glob(filepath.Join(c.dir, "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("%v, %v: want the directory and its lock", left, err)
	}
}

// What was used longest ago goes first, nothing goes that is used, and what somebody has left
// who died in the middle goes, too.
func TestTrim(t *testing.T) {
	c := cache{filepath.Join(t.TempDir(), "checkpoints")}
	release := map[string]func() error{}
	for i, name := range []string{"old", "used", "new", "newest"} {
		dir, done, err := c.get(t.Context(), digest.FromString(name), func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "memory"), make([]byte, 1000), 0o600)
		})
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(time.Duration(i-4) * time.Hour)
		if err := os.Chtimes(dir+".lock", at, at); err != nil {
			t.Fatal(err)
		}
		release[name] = done
		if name != "used" {
			if err := done(); err != nil {
				t.Fatal(err)
			}
		}
	}
	part := filepath.Join(c.dir, digest.FromString("half").Encoded()+".part")
	if err := os.MkdirAll(part, 0o700); err != nil {
		t.Fatal(err)
	}
	there := func() (names []string) {
		for _, name := range []string{"old", "used", "new", "newest"} {
			if _, err := os.Stat(filepath.Join(c.dir, digest.FromString(name).Encoded())); err == nil {
				names = append(names, name)
			}
		}
		return names
	}
	for _, step := range []struct {
		limit int64
		want  []string
	}{{4000, []string{"old", "used", "new", "newest"}}, {3999, []string{"used", "new", "newest"}}, {2000, []string{"used", "newest"}}, {0, []string{"used"}}} {
		if err := c.trim(step.limit); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, there()); diff != "" {
			t.Errorf("at most %d bytes (-want +got):\n%s", step.limit, diff)
		}
	}
	if _, err := os.Stat(part); err == nil {
		t.Error("what was left half done is there")
	}
	dirs, back, err := c.borrow()
	if err != nil || len(dirs) != 1 {
		t.Fatalf("%v, %v: want the one that is there", dirs, err)
	}
	if err := release["used"](); err != nil {
		t.Fatal(err)
	}
	if err := c.trim(0); err != nil || len(there()) != 1 {
		t.Errorf("%v: %v is there, want what is borrowed", err, there())
	}
	if err := back(); err != nil {
		t.Fatal(err)
	}
	if err := c.trim(0); err != nil || len(there()) != 0 {
		t.Errorf("%v: %v is there, want nothing", err, there())
	}
}
