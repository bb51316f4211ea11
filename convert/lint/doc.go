// Package lint compares an image with what the draft "EROFS image layer format" (erofs/erofs-image-spec,
// spec.md at commit 640fd6a) asks of who makes one.
//
//	report, err := lint.Image(ctx, src, lint.Options{})
//	if err == nil {
//		err = report.Err(false)
//	}
//
// [Rules] are all of its MUST and SHOULD that are about images, each with the draft's section. What
// it asks of readers is no rule here. A rule that no image shows, since it is about what somebody
// means, or about making the same twice, is listed with the reason.
//
// Of blobs the superblocks, the metadata and the chunk indexes are fetched, by range requests. With
// [Options.Deep] all of them is read, and digests, checksums and trees of hashes are computed.
package lint
