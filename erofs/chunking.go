package erofs

import "hash/fnv"

// Where a +zstd blob's chunks begin: with block 0, behind it, with the metadata, with a
// dm-verity tree, and so that two images with the same files have the same chunks
// where they can, whatever else differs:
//
//   - A file of aloneFrom bytes or more begins a chunk, and the one after it, too. It is cut
//     into pieces of imageChunk.
//   - A smaller one shares a chunk with those before it in the tar, and is never cut. It
//     begins a chunk where it has no room, or where the chunk holds sharedChunk bytes and
//     its name says so. The name, and not what it holds: a file that changes moves no border.
//
// All of it is counted in bytes of the image, where files begin at blocks. The sizes are
// what compression takes: with half of them a Debian root is 1.09 of what zstd -3 makes of
// the whole image, and with these 1.06.
const (
	imageChunk  = 4 << 20
	aloneFrom   = 1 << 20
	sharedChunk = 1 << 20
)

// beginsChunk picks one name of sixteen. After a file was added or removed, borders
// meet again as soon as both images have had room for such a name.
func beginsChunk(name string) bool {
	h := fnv.New32a()
	h.Write([]byte(name))
	return (h.Sum32()>>16^h.Sum32())&15 == 0
}
