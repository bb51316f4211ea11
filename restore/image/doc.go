// Package image publishes checkpoints as images of a registry and reads them back.
//
// A checkpoint image is an OCI manifest with the annotations of package archive, by which
// containerd, CRI-O, Podman and checkpointctl know it, and one layer: a checkpoint archive,
// a tar+zstd. No manifest names the image that the container stood on as a layer: who
// restores needs that too, and finds it by the annotations for a base image of the OCI
// image spec.
package image
