package cimfs

// What registries have of block CIMs. There is no other convention for it; docs/blockcim.md is
// where this one is written down.
const (
	// MediaTypeLayer is a block CIM of one layer, sealed and without a VHD footer.
	MediaTypeLayer     = "application/vnd.lithify.windows.blockcim.layer.v1"
	MediaTypeLayerZstd = MediaTypeLayer + "+zstd"
	// MediaTypeMerged is a block CIM that joins those of all layers of its manifest. It is the
	// last of the manifest's layers, and none of the config's.
	MediaTypeMerged     = "application/vnd.lithify.windows.blockcim.merged.v1"
	MediaTypeMergedZstd = MediaTypeMerged + "+zstd"
	// OSFeature tells an image of block CIMs from one of tars, in platforms.
	OSFeature = "blockcim"
	// WriterVersion is what decides which calls make a CIM.
	WriterVersion = "hcsshim v0.15.0"
)

// Annotations of a layer's descriptor. That of a merged CIM has the first three; the last two
// are of the topmost layer of an image that has one, because differs are told of layers alone.
const (
	AnnotationRootHash = "io.github.lithify.blockcim.root-hash" // hex of 32 bytes
	AnnotationName     = "io.github.lithify.blockcim.name"      // of the CIM in the block
	AnnotationWriter   = "io.github.lithify.blockcim.writer"    // library, its version, the host's build
	AnnotationSource   = "io.github.lithify.blockcim.diff-id"   // of the tar that it was made of
	AnnotationHives    = "io.github.lithify.blockcim.hives"     // digest of a blob of MediaTypeHives

	AnnotationMerged         = "io.github.lithify.blockcim.merged"           // digest of a blob of MediaTypeMergedZstd
	AnnotationMergedRootHash = "io.github.lithify.blockcim.merged-root-hash" // of the CIM in it
)
