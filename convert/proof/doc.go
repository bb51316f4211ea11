// Package proof shows that a layer of EROFS holds what the tar holds that it was made from, by
// code that shares nothing with the writer: the tar is read by archive/tar, the image by go-erofs.
//
//	tar := proof.NewTar(bottom)
//	err := tar.Read(r)                        // the decompressed tar, once, as it goes by
//	err = tar.Compare(ctx, image, lower, nil) // the finished image
//
// [Stack] compares what a container sees in layers on each other with what applying one after
// the other gives.
//
// Every entry is compared in type, mode, owner, time, extended attributes, links, size and
// content (SHA-256). What is held in memory is bounded by the number of entries: some 300 bytes
// each, and no content.
package proof

// Version names what is compared, and how. It stands in records beside a result.
const Version = "lithify-proof/1 archive/tar go-erofs/v0.3.1"
