package erofs_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/lithify/lithify/erofs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestDescriptor(t *testing.T) {
	l := &erofs.Layer{Profile: erofs.ProfileZstd, Digest: "sha256:b", Size: 5, ImageDigest: "sha256:i"}
	for _, c := range []struct {
		dialect erofs.Dialect
		top     bool
		want    ocispec.Descriptor
	}{
		{erofs.DialectLegacy, false, ocispec.Descriptor{MediaType: "application/vnd.erofs.layer.v1+zstd", Digest: "sha256:b", Size: 5}},
		{erofs.DialectSpec, true, ocispec.Descriptor{MediaType: "application/vnd.erofs+zstd", Digest: "sha256:b", Size: 5,
			Annotations: map[string]string{"org.erofs.uncompressed-digest": "sha256:i"}}},
		{erofs.DialectSpec, false, ocispec.Descriptor{MediaType: "application/vnd.erofs+zstd", Digest: "sha256:b", Size: 5,
			Annotations: map[string]string{"org.erofs.uncompressed-digest": "sha256:i", "org.erofs.role": "overlay-lower"}}},
	} {
		got := c.dialect.Descriptor(l, c.top)
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
