// Package inspect looks into images in a registry without pulling them.
//
//	report, err := inspect.Image(ctx, src)            // what its manifests and layers are
//	fsys, err := inspect.Open(ctx, src, opts)         // the files of an EROFS variant
//	err = fsys.Walk("etc", func(f overlay.File) error { ... })
//
// Of a raw EROFS layer it fetches the superblock, the metadata and what is read of files, each
// by range requests; of a layer of zstd frames its chunk index and the chunks that are asked
// for. One without a chunk index says nowhere where its frames begin, and is fetched whole.
package inspect
