package convert_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/lithify/lithify/convert"
)

// cimDirs makes directories of chains in one.
type cimDirs struct {
	temp string
	log  strings.Builder
}

func (c *cimDirs) new(t *testing.T) (path string, kill func() error, drop func(context.Context)) {
	t.Helper()
	path, kill, drop, err := convert.CIMDir(c.temp, slog.New(slog.NewTextHandler(&c.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path, "layer.vhd"), []byte("block"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, kill, drop
}

func (c *cimDirs) has(t *testing.T, want int) {
	t.Helper()
	if left, err := os.ReadDir(c.temp); err != nil || len(left) != want {
		t.Errorf("left: %v, %v; want %d", left, err, want)
	}
}

// TestCIMDir has two chains in one directory, and a process that was killed.
func TestCIMDir(t *testing.T) {
	c := &cimDirs{temp: t.TempDir()}
	killed, kill, _ := c.new(t)
	first, _, dropFirst := c.new(t)
	if err := kill(); err != nil {
		t.Fatal(err)
	}
	second, _, dropSecond := c.new(t)
	for _, path := range []string{first, second} {
		if _, err := os.Stat(filepath.Join(path, "layer.vhd")); err != nil {
			t.Errorf("that of a chain that is under way: %v", err)
		}
	}
	if _, err := os.Stat(killed); !os.IsNotExist(err) {
		t.Errorf("that of a process that was killed: %v, want none", err)
	}
	dropFirst(t.Context())
	dropSecond(t.Context())
	c.has(t, 0)
	if c.log.Len() > 0 {
		t.Errorf("log: %s", c.log.String())
	}
}

// TestCIMDirInUse has a virus scanner look into a block, which Windows does not remove then.
func TestCIMDirInUse(t *testing.T) {
	c := &cimDirs{temp: t.TempDir()}
	path, _, drop := c.new(t)
	scanner, err := os.Open(filepath.Join(path, "layer.vhd"))
	if err != nil {
		t.Fatal(err)
	}
	drop(t.Context())
	if warned := strings.Contains(c.log.String(), "left for now"); warned != (runtime.GOOS == "windows") {
		t.Errorf("log: %q", c.log.String())
	}
	if err := scanner.Close(); err != nil {
		t.Fatal(err)
	}
	_, _, drop = c.new(t) // which sweeps
	drop(t.Context())
	c.has(t, 0)
}
