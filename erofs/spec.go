package erofs

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/lithify/lithify/erofs/verity"
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

	// MediaTypeChunkIndex is an index of chunks (2.2, 3.4).
	MediaTypeChunkIndex = "application/vnd.erofs.chunk-index.v1"

	// AnnotationRole says what a layer is in its stack (2.3).
	AnnotationRole = "org.erofs.role"
	// AnnotationUncompressedDigest is the digest of the image inside the blob,
	// which is the DiffID (2.3); required on +zstd.
	AnnotationUncompressedDigest = "org.erofs.uncompressed-digest"

	// Of a layer with a chunk index in its blob (2.3): from which byte of the blob to
	// which, the digest of the index, and its media type, which may be left out if it is
	// MediaTypeChunkIndex.
	AnnotationChunkIndexRange     = "org.erofs.chunk-index.range"
	AnnotationChunkIndexDigest    = "org.erofs.chunk-index.digest"
	AnnotationChunkIndexMediaType = "org.erofs.chunk-index.mediaType"

	// Of a layer with a dm-verity tree (2.3): where it begins in the image data, in bytes,
	// its root digest, and the size of its blocks, which may be left out if it is 4096.
	AnnotationVerityHashOffset = "org.erofs.dmverity.hash_offset"
	AnnotationVerityRootDigest = "org.erofs.dmverity.root_digest"
	AnnotationVerityBlockSize  = "org.erofs.dmverity.block_size"

	// AnnotationChunkIndexTarget is of a layer that is a chunk index: the digest of the one
	// before it, which it is of (2.3).
	AnnotationChunkIndexTarget = "org.erofs.chunk-index.target"

	// RoleOverlayLower marks every layer of a stack but the top one (2.4).
	RoleOverlayLower = "overlay-lower"
	// RoleDevice marks a layer of any media type that the first EROFS layer behind it without
	// this role reads files from, by its device table (2.4).
	RoleDevice = "device"
	// RoleOverlayData marks a layer of which one above it shows the files (2.4).
	RoleOverlayData = "overlay-data"

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

// AnnotationFSVerity is the blob's fs-verity digest. The draft has no name for it.
const AnnotationFSVerity = "io.github.lithify.fsverity"

// Profile is an output format.
type Profile string

const (
	ProfileRaw  Profile = "erofs"      // the image itself
	ProfileZstd Profile = "erofs+zstd" // the image as zstd frames
	// ProfileTar is an image with blocks of 512 bytes around the layer's tar, verbatim:
	//
	//	0        "lithitar", the tar's size in bytes (8 bytes, little endian), zeros
	//	1024     superblock, zeros
	//	4096     the tar, filled up to a block by zeros
	//	...      inodes, directories, then file contents that the tar has not in one piece
	//
	// The bytes of the tar hash to the source layer's DiffID. All before them depends on
	// the tar's size alone, so that a blob can be sent while it is made.
	ProfileTar Profile = "erofs-tar"
	// ProfileIndex is an image, with blocks of 512 bytes, of metadata alone. Its files lie in
	// the layer's tar, which stays in the source's own blob, compressed or not: the layer before
	// it in the manifest, of [RoleDevice]. Whoever mounts it unpacks that blob, if it is
	// compressed, and gives mount(2) the tar as device=.
	//
	//	0        zeros
	//	1024     superblock
	//	1152     the one slot of the device table: a tag, the digest of the source's blob in
	//	         hexadecimal; the tar's size, and where it lies in the addresses of the image,
	//	         which is behind its end, both in blocks
	//	4096     inodes, directories, then file contents that the tar has not in one piece
	//
	// What follows the tar's last whole block is not part of the device. It takes
	// [DialectSpec]: the other has no roles.
	ProfileIndex Profile = "erofs-index"
)

// inTar reports whether files lie where the tar has them, which takes blocks like its own.
func (p Profile) inTar() bool { return p == ProfileTar || p == ProfileIndex }

// Annotations of a layer of [ProfileTar], in both dialects.
const (
	// AnnotationTarSize is the size of the tar in the blob, in bytes, which begins at byte 4096.
	AnnotationTarSize = "io.github.lithify.tar.size"
	// AnnotationTarDigest is the tar's digest, the source layer's DiffID.
	AnnotationTarDigest = "io.github.lithify.tar.digest"
)

// Dialect is a way to name EROFS layers in manifests. It does not touch blobs.
type Dialect string

const (
	DialectLegacy Dialect = "legacy" // what released containerd reads
	DialectSpec   Dialect = "spec"   // the draft specification
)

// ParseProfile is for flags and configuration files.
func ParseProfile(s string) (Profile, error) {
	return parseOneOf("profile", Profile(s), ProfileRaw, ProfileZstd, ProfileTar, ProfileIndex)
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
//
// What proves a layer, and where its chunks are, is in both dialects: containerd passes over annotations that it
// does not know, and has none of its own for it. It trusts a file <blob>.dmverity
// beside a blob that it made itself or that lies in its cache of layers.
func (d Dialect) Descriptor(l *Layer, top bool) ocispec.Descriptor {
	notes := map[string]string{}
	if v := l.Verity; v != nil {
		notes[AnnotationVerityHashOffset] = strconv.FormatInt(v.HashOffset, 10)
		notes[AnnotationVerityRootDigest] = v.RootDigest.String()
		notes[AnnotationVerityBlockSize] = strconv.Itoa(verity.BlockSize)
	}
	if l.Profile == ProfileTar {
		notes[AnnotationTarSize] = strconv.FormatInt(l.TarSize, 10)
		notes[AnnotationTarDigest] = l.TarDigest.String()
	}
	if l.FSVerity != "" {
		notes[AnnotationFSVerity] = l.FSVerity.String()
	}
	if x := l.Chunks; x != nil {
		notes[AnnotationChunkIndexRange] = fmt.Sprintf("%d:%d", x.Offset, x.End)
		notes[AnnotationChunkIndexDigest] = x.Digest.String()
	}
	if d == DialectSpec {
		notes[AnnotationUncompressedDigest] = l.ImageDigest.String()
		if !top {
			notes[AnnotationRole] = RoleOverlayLower
		}
	}
	desc := ocispec.Descriptor{MediaType: d.MediaType(l.Profile), Digest: l.Digest, Size: l.Size}
	if len(notes) > 0 {
		desc.Annotations = notes
	}
	return desc
}
