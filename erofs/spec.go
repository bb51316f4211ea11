package erofs

import (
	"fmt"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The names of the draft "EROFS image layer format", erofs/erofs-image-spec,
// spec.md at commit 640fd6a; the number is the draft's section. It is a draft:
// what changes there changes here and nowhere else. Its names of chunk indexes (2),
// dm-verity (2.3) and device tables (2.4) come with the code that writes these.
const (
	// MediaTypeImage is a raw, mountable EROFS image (2).
	MediaTypeImage = "application/vnd.erofs"
	// MediaTypeImageZstd is the same bytes as zstd frames (2).
	MediaTypeImageZstd = "application/vnd.erofs+zstd"

	// AnnotationRole says what a layer is in its stack (2.3).
	AnnotationRole = "org.erofs.role"
	// AnnotationUncompressedDigest is the digest of the image inside the blob,
	// which is the DiffID (2.3); required on +zstd.
	AnnotationUncompressedDigest = "org.erofs.uncompressed-digest"

	// RoleOverlayLower marks every layer of a stack but the top one (2.4).
	RoleOverlayLower = "overlay-lower"

	// OSFeature stands in os.features of config and index entry, in both dialects
	// (5; containerd >= 2.3).
	OSFeature = "erofs"
)

// The names containerd (to 2.4) and nerdctl use: containerd
// core/images/mediatypes.go and core/images/converter/erofs. They know neither
// roles nor annotations.
const (
	MediaTypeLegacy     = "application/vnd.erofs.layer.v1"
	MediaTypeLegacyZstd = "application/vnd.erofs.layer.v1+zstd"
)

// Profile is an output format.
type Profile string

const (
	ProfileRaw  Profile = "erofs"      // the image itself
	ProfileZstd Profile = "erofs+zstd" // the image as zstd frames
)

// Dialect is a way to name EROFS layers in manifests. It does not touch blobs.
type Dialect string

const (
	DialectLegacy Dialect = "legacy" // what released containerd reads
	DialectSpec   Dialect = "spec"   // the draft specification
)

// ParseProfile is for flags and configuration files.
func ParseProfile(s string) (Profile, error) {
	return parseOneOf("profile", Profile(s), ProfileRaw, ProfileZstd)
}

// ParseDialect is for flags and configuration files.
func ParseDialect(s string) (Dialect, error) {
	return parseOneOf("dialect", Dialect(s), DialectLegacy, DialectSpec)
}

func parseOneOf[T ~string](what string, v T, allowed ...T) (T, error) {
	if !slices.Contains(allowed, v) {
		return "", fmt.Errorf("%s %q: want one of %q", what, string(v), allowed)
	}
	return v, nil
}

// MediaType is a layer's media type; an unknown dialect counts as legacy.
func (d Dialect) MediaType(p Profile) string {
	switch {
	case d == DialectSpec && p == ProfileZstd:
		return MediaTypeImageZstd
	case d == DialectSpec:
		return MediaTypeImage
	case p == ProfileZstd:
		return MediaTypeLegacyZstd
	}
	return MediaTypeLegacy
}

// IsLayerMediaType reports whether mt names an EROFS layer in either dialect.
func IsLayerMediaType(mt string) bool {
	switch mt {
	case MediaTypeImage, MediaTypeImageZstd, MediaTypeLegacy, MediaTypeLegacyZstd:
		return true
	}
	return false
}

// Descriptor describes l in a manifest of this dialect. top says that no layer
// lies above it.
func (d Dialect) Descriptor(l *Layer, top bool) ocispec.Descriptor {
	desc := ocispec.Descriptor{MediaType: d.MediaType(l.Profile), Digest: l.Digest, Size: l.Size}
	if d != DialectSpec {
		return desc
	}
	desc.Annotations = map[string]string{AnnotationUncompressedDigest: l.ImageDigest.String()}
	if !top {
		desc.Annotations[AnnotationRole] = RoleOverlayLower
	}
	return desc
}
