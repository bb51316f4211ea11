package restore

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

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
