package verify_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/verify"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/test/imagetest"
	"github.com/opencontainers/go-digest"
)

// TestClaims: what annotations say of a layer, and proves nothing, is a difference that names
// the layer.
func TestClaims(t *testing.T) {
	h := imagetest.NewHub(t)
	lower := imagetest.Layer(t, map[string]string{"f": strings.Repeat("lithify ", 300_000)}, tar.Header{Name: "f", Mode: 0o644})
	upper := imagetest.Layer(t, map[string]string{"g": "g"}, tar.Header{Name: "g", Mode: 0o644})
	other := digest.FromString("x").String()
	note := func(key, value string) func(*imagetest.Image) {
		return func(m *imagetest.Image) { m.Manifest.Layers[0].Annotations[key] = value }
	}
	index := func(edit func(payload []byte)) func(*imagetest.Image) {
		return func(m *imagetest.Image) {
			d := m.Manifest.Layers[0]
			x, _, err := erofs.ChunkIndexOf(d)
			if err != nil {
				t.Fatal(err)
			}
			blob := slices.Clone(m.Blobs[0])
			edit(blob[x.Offset+8:])
			m.Replace(0, blob)
			delete(d.Annotations, erofs.AnnotationFSVerity)
			d.Annotations[erofs.AnnotationChunkIndexDigest] = digest.FromBytes(blob[x.Offset+8:]).String()
		}
	}
	tree := func(m *imagetest.Image) {
		blob := slices.Clone(m.Blobs[0])
		at := bytes.Index(blob, []byte("verity\x00\x00"))
		blob[at+4096] ^= 1
		m.Replace(0, blob)
		delete(m.Manifest.Layers[0].Annotations, erofs.AnnotationFSVerity)
	}
	nothing := func(*imagetest.Image) {}
	for name, c := range map[string]struct {
		profile erofs.Profile
		alter   func(*imagetest.Image)
		want    string
	}{
		"nothing":       {erofs.ProfileRaw, nothing, ""},
		"nothing, zstd": {erofs.ProfileZstd, nothing, ""},
		"root":          {erofs.ProfileRaw, note(erofs.AnnotationVerityRootDigest, other), "dm-verity root digest is sha256:"},
		"root, zstd":    {erofs.ProfileZstd, note(erofs.AnnotationVerityRootDigest, other), "dm-verity root digest is sha256:"},
		"tree":          {erofs.ProfileRaw, tree, "hashes of other data"},
		"no root":       {erofs.ProfileRaw, func(m *imagetest.Image) { delete(m.Manifest.Layers[0].Annotations, erofs.AnnotationVerityRootDigest) }, "dm-verity root digest"},
		"offset":        {erofs.ProfileRaw, note(erofs.AnnotationVerityHashOffset, "4096"), "no dm-verity superblock"},
		"no number":     {erofs.ProfileRaw, note(erofs.AnnotationVerityHashOffset, "x"), `hash offset is "x"`},
		"block size":    {erofs.ProfileRaw, note(erofs.AnnotationVerityBlockSize, "512"), "block size is 4096, want 512"},
		"fs-verity":     {erofs.ProfileRaw, note(erofs.AnnotationFSVerity, other), "fs-verity digest"},
		"index":         {erofs.ProfileZstd, note(erofs.AnnotationChunkIndexDigest, other), "chunks is chunk index: digest"},
		"index's place": {erofs.ProfileZstd, note(erofs.AnnotationChunkIndexRange, "0"), "chunk index"},
		"chunk's sum":   {erofs.ProfileZstd, index(func(p []byte) { p[32+48+16]++ }), "chunk 1"},
		"chunk's end":   {erofs.ProfileZstd, index(func(p []byte) { p[32+48+8]++ }), "chunk 0"},
	} {
		t.Run(name, func(t *testing.T) {
			m := h.Converted(t, "it:made", convert.Options{Profile: c.profile, Verity: true}, lower, upper)
			c.alter(m)
			r, err := verify.Registry(t.Context(), h.Put(t, "it:claims", m), nil, t.TempDir(), verify.Options{})
			if err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprint(r.Variants[0].Differences)
			if c.want == "" {
				if r.Err() != nil {
					t.Error(r.Err())
				}
				return
			}
			if len(r.Variants[0].Differences) != 1 || !strings.Contains(got, c.want) || !strings.Contains(got, "layer 1") {
				t.Errorf("got %s, want one of layer 1 that says %q", got, c.want)
			}
			if err := r.Err(); err == nil || !strings.Contains(err.Error(), "layer 1") {
				t.Errorf("error: %v", err)
			}
		})
	}
}
