package archive_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/restore/archive"
)

// fuzzLimits keep one run short.
var fuzzLimits = archive.Limits{Bytes: 1 << 20, Entries: 100, JSON: 64 << 10}

// FuzzRead gives Read any bytes. It leaves nothing behind but what it says, all of it below
// the directory; what it accepts it opens again, and its changed files are a tar or refused.
func FuzzRead(f *testing.F) {
	all := append(containerdArchive(member{name: "rootfs-diff.tar", body: string(layerOf(f))}, member{name: "deleted.files", body: `["/a"]`}), tinyImages()...)
	f.Add(makeTar(f, all...), true)
	f.Add(gzipped(f, makeTar(f, containerdArchive()...)), false)
	f.Add(zstded(f, makeTar(f, all...)), false)
	dir, c := whole(f)
	f.Add(write(f, dir, c, archive.CRIO), true)
	f.Add(write(f, dir, c, archive.Podman), true)
	f.Fuzz(func(t *testing.T, b []byte, sums bool) {
		if sums {
			b = fixSums(b)
		}
		above := t.TempDir()
		dir := filepath.Join(above, "ck")
		c, err := archive.Read(t.Context(), bytes.NewReader(b), dir, fuzzLimits)
		if err != nil {
			if left := tree(t, above); len(left) > 0 {
				t.Fatalf("left behind after %v: %v", err, left)
			}
			return
		}
		if entries := tree(t, above); entries[0] != "ck" {
			t.Fatalf("outside of the directory: %v", entries)
		}
		again, err := archive.Open(dir, fuzzLimits)
		if err != nil || again.Base != c.Base || again.Format != c.Format {
			t.Fatalf("opened again: %+v, %v; first %+v", again, err, c)
		}
		r := c.Changes(t.Context(), dir, fuzzLimits)
		defer r.Close()
		if _, err := io.Copy(io.Discard, r); err != nil && !errdefs.IsInvalidArgument(err) {
			t.Fatalf("changes: error of no kind: %v", err)
		}
	})
}

// fixSums sets the checksums of a tar's headers, so that what is wrong with one is found
// behind them.
func fixSums(b []byte) []byte {
	b = bytes.Clone(b)
	for rest := b; len(rest) >= 512; rest = rest[512:] {
		if hdr := rest[:512]; bytes.HasPrefix(hdr[257:], []byte("ustar")) {
			fixSum(hdr)
		}
	}
	return b
}

func fixSum(hdr []byte) {
	copy(hdr[148:156], "        ")
	sum := 0
	for _, c := range hdr {
		sum += int(c)
	}
	copy(hdr[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

// FuzzValidate puts any bytes in the place of one of CRIU's images. Whatever they are, the
// answer is facts or a refusal, and what is accepted has all pages that are named.
func FuzzValidate(f *testing.F) {
	tiny := append(tinyImages(),
		member{name: "checkpoint/mountpoints-9.img", body: message("\x08\x05\x72\x04ext4", 0x55563928)},
		member{name: "checkpoint/cgroup.img", body: message("\x0a\x07\x12\x05\x12\x03/up", 0x59383330)},
		member{name: "checkpoint/descriptors.json", body: `["/dev/null","pipe:[1]","pipe:[2]"]`},
	)
	for i, m := range tiny {
		f.Add(uint8(i), []byte(m.body))
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "checkpoint"), 0o700); err != nil {
			t.Fatal(err)
		}
		pages := int64(0)
		for i, m := range tiny {
			body := []byte(m.body)
			if i == int(which)%len(tiny) {
				body = b
			}
			if filepath.Base(m.name) == "pages-1.img" {
				pages = int64(len(body))
			}
			if err := os.WriteFile(filepath.Join(dir, m.name), body, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, err := archive.Validate(dir)
		switch {
		case err != nil && !errdefs.IsInvalidArgument(err):
			t.Fatalf("error of no kind: %v", err)
		case err == nil && got.Bytes != 0 && got.Bytes != pages:
			t.Fatalf("%d bytes of pages, and there are %d", got.Bytes, pages)
		}
	})
}

// FuzzDerive gives Derive any spec: nothing of it comes out but what has a field.
func FuzzDerive(f *testing.F) {
	f.Add([]byte(hostileSpec))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := archive.Derive(b)
		if (err == nil) != (d != nil) {
			t.Fatalf("%v and %v", d, err)
		}
		if err == nil && !json.Valid(b) {
			t.Fatalf("accepted %q", b)
		}
	})
}
