package erofs_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/erofs/erofstest"
)

// TestUnhashed: without digests the image is the same but for the superblock's
// UUID and checksum.
func TestUnhashed(t *testing.T) {
	src := oddLayer(t)
	for _, profile := range []erofs.Profile{erofs.ProfileRaw, erofs.ProfileZstd, erofs.ProfileTar, erofs.ProfileIndex} {
		for _, serial := range []bool{false, true} {
			f, want := mustConvert(t, src, erofs.Options{Profile: profile})
			g, got := mustConvert(t, src, erofs.Options{Profile: profile, Serial: serial, Unhashed: true})
			ignored := cmpopts.IgnoreFields(erofs.Layer{}, "TarDigest", "Digest", "ImageDigest", "UUID", "Metadata.Digest", "Chunks.Digest")
			if d := cmp.Diff(want, got, ignored); d != "" {
				t.Errorf("%s, serial %v (-hashed +unhashed):\n%s", profile, serial, d)
			}
			if s := got.TarDigest + got.Digest + got.ImageDigest + got.Metadata.Digest; s != "" || got.UUID != (uuid.UUID{}) {
				t.Errorf("%s, serial %v: digests %q and UUID %s, want none", profile, serial, s, got.UUID)
			}
			hashed, unhashed := blobOf(t, f), blobOf(t, g)
			if x := want.Chunks; x != nil { // the index has block 0's digest
				hashed, unhashed = hashed[:x.Offset], unhashed[:x.Offset]
			}
			const firstBlock = 4096 + 16 // and, for zstd, its frame
			if !bytes.Equal(hashed[firstBlock:], unhashed[firstBlock:]) {
				t.Errorf("%s, serial %v: the blobs differ behind block 0", profile, serial)
			}
			if profile != erofs.ProfileZstd {
				erofstest.Fsck(t, g.Name())
			}
		}
	}
}

func blobOf(t *testing.T, f *os.File) []byte {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}
