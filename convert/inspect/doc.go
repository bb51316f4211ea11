// Package inspect looks into images in a registry without pulling them.
//
//	report, err := inspect.Image(ctx, src)            // what its manifests and layers are
//	fsys, err := inspect.Open(ctx, src, opts)         // the files of an EROFS variant
//	err = fsys.Walk("etc", func(f overlay.File) error { ... })
//
// Of a raw EROFS layer it fetches the superblock, the metadata and what is read of files, each
// by range requests. A layer of zstd frames without a chunk index says nowhere where they
// begin, and is fetched whole once a file of it is asked for.
package inspect
