// Package pages cuts the memory of checkpoints into chunks, so that a checkpoint of a process
// that was checkpointed before moves as much as has changed since.
//
//	index, err := pages.Split(ctx, dir, previous, newBlob) // of a directory of package archive
//	err = index.Save(dir)
//	err = archive.Write(ctx, layer, dir, c, archive.WriteOptions{WithoutPages: true})
//	...
//	c, err := archive.Read(ctx, layer, dir, archive.Limits{})
//	index, err = pages.Load(dir, archive.Limits{})
//	moved, err := index.Join(ctx, dir, source, earlier)    // directories that are here already
//
// # Format
//
// A chunk is what a process has in 64 KiB of its addresses, aligned: one to sixteen pages. It is
// cut by address and not by its place in CRIU's file of pages, where one page more would move
// all that follow. Chunks of zeros are nowhere. The others are frames of zstd, one a chunk,
// one after another in packs, blobs of up to 256 MiB. What says which is where is the
// [Index], JSON in the archive that has the rest of the checkpoint. An index may name packs
// of earlier checkpoints: the registry has them, if the manifest names them too.
//
// 64 KiB, because of a later checkpoint of the same process 99.5 % of such chunks were the same
// when it was measured (of 4 KiB 99.9 %, with sixteen times as many names; of 1 MiB 95.2 %).
package pages
