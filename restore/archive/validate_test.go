//go:build linux

package archive_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"
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

// TestValidateRefuses damages each file of a dump in turn.
func TestValidateRefuses(t *testing.T) {
	source := sleepDump(t)
	pid := sleepPID(t, source)
	cut := func(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:len(b)-n] } }
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 0x40; return b }
	}
	long := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], 1<<31-1); return b }
	}
	for _, tt := range []struct {
		name, file string
		damage     func([]byte) []byte // nil: the file is not there
		want       string
	}{
		{"pages that are missing make CRIU spin", "pages-1.img", cut(4096), "the maps of memory name"},
		{"half a page", "pages-1.img", cut(100), "the maps of memory name"},
		{"more pages than are named", "pages-1.img", func(b []byte) []byte { return append(b, make([]byte, 4096)...) }, "the maps of memory name"},
		{"no pages", "pages-1.img", nil, "lacks it"},
		{"no inventory", "inventory.img", nil, "lacks it"},
		{"magic of the inventory", "inventory.img", flip(0), "CRIU writes"},
		{"common magic", "core-" + pid + ".img", flip(0), "CRIU writes"},
		{"own magic", "core-" + pid + ".img", flip(4), "CRIU writes"},
		{"core ends early", "core-" + pid + ".img", cut(1), "ends in the middle"},
		{"core ends in a length", "core-" + pid + ".img", func(b []byte) []byte { return append(b, 1, 0) }, "ends in the middle"},
		{"a length beyond the end", "mm-" + pid + ".img", long(8), "ends in the middle"},
		{"two messages where there is one", "mm-" + pid + ".img", func(b []byte) []byte { return append(b, b[8:]...) }, "more than one"},
		{"no core", "core-" + pid + ".img", nil, "lacks it"},
		{"no mm", "mm-" + pid + ".img", nil, "lacks it"},
		{"no pagemap", "pagemap-" + pid + ".img", nil, "lacks it"},
		{"no fs", "fs-" + pid + ".img", nil, "lacks it"},
		{"no pstree", "pstree.img", nil, "lacks it"},
		{"nobody in pstree", "pstree.img", func(b []byte) []byte { return b[:8] }, "names no process"},
		{"a process twice", "pstree.img", func(b []byte) []byte { return append(b, b[8:]...) }, "twice"},
		{"an empty pagemap", "pagemap-" + pid + ".img", func(b []byte) []byte { return b[:8] }, "is empty"},
		{"a field of compression", "pagemap-" + pid + ".img", func(b []byte) []byte { return append(b, 4, 0, 0, 0, 8, 0, 0x30, 1) }, "later CRIU"},
		{"an entry of no pages", "pagemap-" + pid + ".img", func(b []byte) []byte { return append(b, 2, 0, 0, 0, 8, 0) }, "entry of 0 pages"},
		{"pages of a dump that is not there", "pagemap-" + pid + ".img", func(b []byte) []byte { return append(b, 6, 0, 0, 0, 8, 0, 0x10, 1, 0x20, 1) }, "dump before"},
		{"a damaged message", "files.img", func(b []byte) []byte { return append(b, 1, 0, 0, 0, 0xff) }, "is damaged"},
		{"statistics", "stats-dump", flip(4), "CRIU writes"},
		{"images of the future", "inventory.img", func(b []byte) []byte { b[9] = 99; return b }, "version 99"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := unpacked(t, source)
			file := filepath.Join(dir, "checkpoint", tt.file)
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if tt.damage != nil {
				if err := os.WriteFile(file, tt.damage(b), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := archive.Validate(dir)
			checkRefused(t, err, filepath.Base(file), tt.want)
			if got != nil {
				t.Errorf("facts in spite of the error: %+v", got)
			}
		})
	}
}

func sleepPID(t testing.TB, dump string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dump, "core-*.img"))
	if err != nil || len(found) != 1 {
		t.Fatalf("cores %v: %v", found, err)
	}
	return strings.TrimSuffix(strings.TrimPrefix(filepath.Base(found[0]), "core-"), ".img")
}
