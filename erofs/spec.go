package erofs

import (
	"fmt"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The names of the draft "EROFS image layer format", erofs/erofs-image-spec,
// spec.md at commit 640fd6a; the number is the draft's section. It is a draft:
// what changes there changes here and nowhere else.
const (
	// MediaTypeImage is a raw, mountable EROFS image (2).
	MediaTypeImage = "application/vnd.erofs"
	// MediaTypeImageZstd is the same bytes as zstd frames (2).
	MediaTypeImageZstd = "application/vnd.erofs+zstd"
	// MediaTypeChunkIndex is a chunk index, standalone or embedded (2).
	MediaTypeChunkIndex = "application/vnd.erofs.chunk-index.v1"

	// AnnotationRole says what a layer is in its stack (2.3).
	AnnotationRole = "org.erofs.role"
	// AnnotationUncompressedDigest is the digest of the image inside the blob,
	// which is the DiffID (2.3); required on +zstd.
	AnnotationUncompressedDigest = "org.erofs.uncompressed-digest"
	// AnnotationChunkIndexRange is where an embedded chunk index lies, "off[:end]" (2.3).
	AnnotationChunkIndexRange = "org.erofs.chunk-index.range"
	// AnnotationChunkIndexDigest is the digest of a chunk index' header and entries (2.3).
	AnnotationChunkIndexDigest = "org.erofs.chunk-index.digest"
	// AnnotationChunkIndexTarget is the layer a standalone chunk index belongs to (2.3).
	AnnotationChunkIndexTarget = "org.erofs.chunk-index.target"
	// AnnotationVerityHashOffset is the uncompressed offset of the dm-verity tree (2.3).
	AnnotationVerityHashOffset = "org.erofs.dmverity.hash_offset"
	// AnnotationVerityRootDigest is the dm-verity root digest (2.3).
	AnnotationVerityRootDigest = "org.erofs.dmverity.root_digest"
	// AnnotationVerityBlockSize is the dm-verity block size, 4096 if absent (2.3).
	AnnotationVerityBlockSize = "org.erofs.dmverity.block_size"

	// RoleOverlayLower marks every layer of a stack but the top one (2.4).
	RoleOverlayLower = "overlay-lower"
	// RoleOverlayData marks payloads for a metadata layer above (2.4).
	RoleOverlayData = "overlay-data"
	// RoleDevice marks a byte source for the next EROFS layer's device table (2.4).
	RoleDevice = "device"

	// OSFeature stands in os.features of config and index entry (5).
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
