// Package convert turns container images into EROFS images, whole.
//
// [Image] reads an image from a [Source], converts the layers of the manifests
// that were asked for, and publishes the result to a [Target]: the original
// manifests byte for byte, with an EROFS variant of each beside them in one
// index. Package registry provides sources and targets: registries, OCI layouts
// and archives.
//
// A layer is converted by itself first, without looking at the layers below it,
// because nearly every layer needs nothing from them and its result then serves
// every image that has it. What it does need (attributes of directories its tar
// leaves out, files of lower layers that it hard-links) it says in
// [erofs.Needs]; where the layers below answer differently from what was
// assumed, the layer is converted once more with the answers. See [LayerJob].
//
// Nothing is published before everything has been converted: blobs first, then
// manifests, then the index, and the tag last, moved only if it still names what
// it named when the work began.
package convert
