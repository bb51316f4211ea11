package archive_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lithify/lithify/restore/archive"
)

// unpackedFrom is a directory as Read makes it, with images.
func unpackedFrom(t testing.TB, images []member) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ck")
	if _, err := archive.Read(t.Context(), bytes.NewReader(makeTar(t, append(containerdArchive(), images...)...)), dir, archive.Limits{}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestValidateDamage damages each file of a dump in turn, of a real one and of ours.
func TestValidateDamage(t *testing.T) {
	t.Run("tiny", func(t *testing.T) { damage(t, "1", tinyImages()) })
	t.Run("criu", func(t *testing.T) {
		real := realImages(t)
		for _, m := range real {
			if id, ok := strings.CutPrefix(m.name, "checkpoint/core-"); ok {
				damage(t, strings.TrimSuffix(id, ".img"), real)
			}
		}
	})
}

func damage(t *testing.T, pid string, source []member) {
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
		{"a byte more", "pages-1.img", func(b []byte) []byte { return append(b, 0) }, "the maps of memory name"},
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
		{"a damaged message", "fs-" + pid + ".img", func(b []byte) []byte { return append(b, 1, 0, 0, 0, 0xff) }, "is damaged"},
		{"a thread without its core", "pstree.img", func(b []byte) []byte { b[8] += 2; return append(b, 0x28, 99) }, "core-99.img"},
		{"statistics", "stats-dump", flip(4), "CRIU writes"},
		{"images of the future", "inventory.img", func(b []byte) []byte { b[9] = 99; return b }, "version 99"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := unpackedFrom(t, source)
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
			checkRefused(t, err, tt.want)
			if !strings.Contains(err.Error(), tt.file) && !strings.Contains(tt.want, ".img") {
				t.Errorf("got %q, want it to name %s", err, tt.file)
			}
			if got != nil {
				t.Errorf("facts in spite of the error: %+v", got)
			}
		})
	}
}

// TestValidateParent: some pages are in the dump before.
func TestValidateParent(t *testing.T) {
	images := tinyImages()
	for i, m := range images {
		if m.name == "checkpoint/pagemap-1.img" {
			images[i].body += "\x08\x00\x00\x00\x08\x80\x40\x10\x03\x20\x01" // three more
			images[i].body = strings.Replace(images[i].body, "\x08\x00\x00\x00\x08\x80", "\x07\x00\x00\x00\x08\x80", 1)
		}
	}
	link := member{name: "checkpoint/parent", kind: '2', link: "../pre-checkpoint"}
	before := func(pages int) []member {
		return []member{link,
			{name: "pre-checkpoint/pagemap-1.img", body: "\x19\x43\x56\x54\x25\x40\x08\x56\x02\x00\x00\x00\x08\x01\x07\x00\x00\x00\x08\x80\x40\x10\x03\x20\x04"},
			{name: "pre-checkpoint/pages-1.img", body: strings.Repeat("p", pages*4096)}}
	}
	got, err := archive.Validate(unpackedFrom(t, append(images, before(3)...)))
	if err != nil || got.Pages != 5 || !got.Parent {
		t.Errorf("got %+v, %v; want 5 pages, 3 of them of the dump before", got, err)
	}
	_, err = archive.Validate(unpackedFrom(t, append(images, before(2)...)))
	checkRefused(t, err, "pre-checkpoint/pages-1.img", "name 3 pages")
	_, err = archive.Validate(unpackedFrom(t, images))
	checkRefused(t, err, "dump before")
}

func TestReadStats(t *testing.T) {
	dir := unpackedFrom(t, tinyImages())
	got, err := archive.ReadStats(filepath.Join(dir, "checkpoint", "stats-dump"))
	if err != nil || got.Frozen != 1500*time.Microsecond || got.Written != 2 {
		t.Errorf("got %+v, %v", got, err)
	}
	_, err = archive.ReadStats(filepath.Join(dir, "checkpoint", "pstree.img"))
	checkRefused(t, err, "CRIU writes")
}
