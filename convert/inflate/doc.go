// Package inflate decompresses gzip streams (RFC 1952, with the DEFLATE data of
// RFC 1951) in pure Go, faster than compress/gzip and klauspost/compress do:
// taking the tar out of its gzip is what the conversion of a layer waits for.
//
//	z, err := inflate.NewReader(r)
//	...
//	_, err = io.Copy(w, z)
//
// It accepts and refuses what compress/gzip does, which the tests and fuzz targets
// compare. It hands out nothing of the headers.
//
// # How it is fast
//
// One look-up of 11 bits gives up to four literals, and the length of the match
// that follows them where the bits suffice, so that there are fewer hard to
// predict branches than symbols (join in tables.go). The input comes in by whole
// words without a branch, and the next look-up starts before a match is copied.
// Buffers and tables are arrays of a power of two inside the Reader: a masked
// index needs no bounds check and no unsafe, and one register addresses them all.
// Whether there is enough input and room is asked once a round; a slower loop
// takes the last bytes of the input.
//
// # Where it is not
//
// Of incompressible data in stored blocks Read makes two copies, where the others
// make one: it takes as long as klauspost/compress or a tenth longer, at several
// GB/s. A Reader's 450 KB cost some 10 µs before the first byte, so that streams of
// less than some 10 KB take up to twice as long.
package inflate
