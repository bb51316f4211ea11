// Package erofs turns a layer's tar into an EROFS image in one pass, and reads
// such images back.
//
// [Convert] reads the decompressed tar once. File contents go to the image in
// the order of the tar, each from a 4 KiB block border on; the tree, of which
// only names and attributes are kept in memory, follows; the superblock is
// patched last. The bytes depend on the tar and the [Options] alone, never on
// the clock, the host or the number of processors.
//
//	block 0        superblock at 1024, zeros elsewhere
//	block 1 ..     file contents, flat or (sparse files) in chunks
//	Metadata ..    inodes with xattrs, symlinks and directories inline, then
//	               the directory blocks that did not fit
//
// [ProfileTar] is the exception: there the tar itself is the image's data, the superblock
// is known once the tar's size is, and so [Stream] needs no file to write to.
//
// A layer's tar does not say everything an overlay needs: a directory it uses
// but does not list takes its mode from below, and a hard link may name a file
// of a lower layer; an opaque mark in the root hides names it does not say.
// [Layer.Needs] lists them; [Options.Context] answers.
//
// The package knows no registry and no queue. [LayerConvertFunc] is the same
// writer as a containerd converter.
package erofs

// WriterVersion names the rules by which [Convert] makes bytes. It changes
// whenever the same tar and options would give other bytes, so results of
// different versions are never taken for each other.
const WriterVersion = "lithify-erofs/4"
