package convert_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/lithify/lithify/convert"
)

// TestCIMDir has two chains in one directory, and a process that was killed.
func TestCIMDir(t *testing.T) {
	temp := t.TempDir()
	made := func() (path string, kill, remove func() error) {
		t.Helper()
		path, kill, remove, err := convert.CIMDir(temp)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "layer.vhd"), []byte("block"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path, kill, remove
	}
	killed, kill, _ := made()
	first, _, removeFirst := made()
	if err := kill(); err != nil {
		t.Fatal(err)
	}
	second, _, removeSecond := made()
	for _, path := range []string{first, second} {
		if _, err := os.Stat(filepath.Join(path, "layer.vhd")); err != nil {
			t.Errorf("that of a chain that is under way: %v", err)
		}
	}
	if _, err := os.Stat(killed); !os.IsNotExist(err) {
		t.Errorf("that of a process that was killed: %v, want none", err)
	}
	for _, remove := range []func() error{removeFirst, removeSecond} {
		if err := remove(); err != nil {
			t.Error(err)
		}
	}
	left, err := os.ReadDir(temp)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
