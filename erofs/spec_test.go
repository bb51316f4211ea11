package erofs_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lithify/lithify/erofs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestDescriptor(t *testing.T) {
	plain := &erofs.Layer{Profile: erofs.ProfileZstd, Digest: "sha256:b", Size: 5, ImageDigest: "sha256:i"}
	proven := &erofs.Layer{Profile: erofs.ProfileRaw, Digest: "sha256:b", Size: 5, ImageDigest: "sha256:b",
		Verity: &erofs.Verity{HashOffset: 8192, RootDigest: "sha256:r"}, FSVerity: "sha256:f",
		Chunks: &erofs.ChunkIndex{Offset: 3, End: 5, Digest: "sha256:x"}}
	proof := func(more ...string) map[string]string {
		m := map[string]string{"org.erofs.dmverity.hash_offset": "8192", "org.erofs.dmverity.root_digest": "sha256:r",
			"org.erofs.dmverity.block_size": "4096", "io.github.lithify.fsverity": "sha256:f",
			"org.erofs.chunk-index.range": "3:5", "org.erofs.chunk-index.digest": "sha256:x"}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	for _, c := range []struct {
		l       *erofs.Layer
		dialect erofs.Dialect
		top     bool
		want    ocispec.Descriptor
	}{
		{proven, erofs.DialectLegacy, true, ocispec.Descriptor{MediaType: "application/vnd.erofs.layer.v1", Digest: "sha256:b", Size: 5, Annotations: proof()}},
		{proven, erofs.DialectSpec, true, ocispec.Descriptor{MediaType: "application/vnd.erofs", Digest: "sha256:b", Size: 5,
			Annotations: proof("org.erofs.uncompressed-digest", "sha256:b")}},
		{plain, erofs.DialectLegacy, false, ocispec.Descriptor{MediaType: "application/vnd.erofs.layer.v1+zstd", Digest: "sha256:b", Size: 5}},
		{plain, erofs.DialectSpec, true, ocispec.Descriptor{MediaType: "application/vnd.erofs+zstd", Digest: "sha256:b", Size: 5,
			Annotations: map[string]string{"org.erofs.uncompressed-digest": "sha256:i"}}},
		{plain, erofs.DialectSpec, false, ocispec.Descriptor{MediaType: "application/vnd.erofs+zstd", Digest: "sha256:b", Size: 5,
			Annotations: map[string]string{"org.erofs.uncompressed-digest": "sha256:i", "org.erofs.role": "overlay-lower"}}},
	} {
		got := c.dialect.Descriptor(c.l, c.top)
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s, top=%v (-want +got):\n%s", c.dialect, c.top, d)
		}
		if !erofs.IsLayerMediaType(got.MediaType) {
			t.Errorf("%s is no layer media type", got.MediaType)
		}
	}
	if erofs.IsLayerMediaType("application/vnd.erofs.chunk-index.v1") || erofs.IsLayerMediaType(ocispec.MediaTypeImageLayerGzip) {
		t.Error("other media types pass for EROFS layers")
	}
}

func TestParse(t *testing.T) {
	if p, err := erofs.ParseProfile("erofs+zstd"); p != erofs.ProfileZstd || err != nil {
		t.Errorf("got %q, %v", p, err)
	}
	if d, err := erofs.ParseDialect("spec"); d != erofs.DialectSpec || err != nil {
		t.Errorf("got %q, %v", d, err)
	}
	_, err1 := erofs.ParseProfile("squashfs")
	_, err2 := erofs.ParseDialect("")
	for err, want := range map[error][]string{err1: {`"squashfs"`, `"erofs"`, `"erofs+zstd"`}, err2: {`""`, `"legacy"`, `"spec"`}} {
		for _, s := range want {
			if err == nil || !strings.Contains(err.Error(), s) {
				t.Errorf("%v does not name %s", err, s)
			}
		}
	}
}
