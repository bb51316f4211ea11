// Package image publishes checkpoints as images of a registry and reads them back.
//
// A checkpoint image is an OCI manifest with the annotations of package archive, by which
// containerd, CRI-O, Podman and checkpointctl know it, and one layer: a checkpoint archive,
// a tar+zstd. One that is split has packs of memory behind it, and an archive without that,
// which no engine restores: package pages. No manifest names the image that the container stood on as a layer: who
// restores needs that too, and finds it by the annotations for a base image of the OCI
// image spec.
package image
