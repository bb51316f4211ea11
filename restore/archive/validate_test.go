//go:build linux

package archive_test

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/lithify/lithify/restore/archive"
)

// unpacked is a directory as Read makes it, with the images of a dump.
func unpacked(t testing.TB, dump string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ck")
	if _, err := archive.Read(t.Context(), bytes.NewReader(makeTar(t, append(containerdArchive(), images(t, dump)...)...)), dir, archive.Limits{}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestValidate(t *testing.T) {
	dir := unpacked(t, sleepDump(t))
	got, err := archive.Validate(dir)
	if err != nil {
		t.Fatal(err)
	}
	pages, err := os.Stat(filepath.Join(dir, "checkpoint", "pages-1.img"))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Processes) != 1 || got.Processes[0].Command != "sleep" || got.Threads != 1 {
		t.Errorf("processes %+v with %d threads, want one sleep", got.Processes, got.Threads)
	}
	if got.Bytes != pages.Size() || got.Pages != pages.Size()/4096 || got.Arch != runtime.GOARCH || got.Version != 2 {
		t.Errorf("got %+v, want %d bytes of pages of %s and version 2", got, pages.Size(), runtime.GOARCH)
	}
	if got.Dump == nil || got.Dump.Written != got.Pages || got.Dump.Frozen <= 0 {
		t.Errorf("statistics %+v, want %d pages written", got.Dump, got.Pages)
	}
}

func TestValidateTree(t *testing.T) {
	got, err := archive.Validate(unpacked(t, treeDump(t)))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Processes) != 3 {
		t.Fatalf("processes %+v, want a shell that became sleep, a zombie and a sleep", got.Processes)
	}
}
