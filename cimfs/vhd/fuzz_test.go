package vhd_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/lithify/lithify/cimfs/vhd"
)

// FuzzFooter reads files that end with anything: what is taken for a footer is of the bytes before
// it, and cutting it off leaves those.
func FuzzFooter(f *testing.F) {
	made := filepath.Join(f.TempDir(), "made")
	if err := os.WriteFile(made, make([]byte, 1024), 0o600); err != nil {
		f.Fatal(err)
	}
	file, err := os.OpenFile(made, os.O_RDWR, 0)
	if err != nil {
		f.Fatal(err)
	}
	defer file.Close()
	if _, err := vhd.Append(file, digest.FromBytes(make([]byte, 1024))); err != nil {
		f.Fatal(err)
	}
	raw, err := os.ReadFile(made)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(raw[512:])
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := os.CreateTemp(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(file.Name())
		defer file.Close()
		if _, err := file.Write(raw); err != nil {
			t.Fatal(err)
		}
		footer, err := vhd.Strip(file)
		if err != nil {
			return
		}
		if info, err := file.Stat(); err != nil || info.Size() != int64(len(raw))-vhd.Size || footer.DiskSize != info.Size() {
			t.Errorf("a disk of %d bytes is left of %d: %+v, %v", footer.DiskSize, len(raw), info, err)
		}
	})
}
