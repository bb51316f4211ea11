// Package verity computes the Merkle trees by which Linux proves what it reads of a
// file: dm-verity's, which is stored behind the data, and that of fs-verity, of which
// only the digest is known beforehand.
//
// Both cut the data into blocks of 4096 bytes and hash each with SHA-256. The hashes,
// again in blocks of 4096 bytes and the last of them filled up with zeros, are hashed
// in turn, until one is left: the root.
//
// A [Tree] and a [FileDigest] are written to, as a hash.Hash is, in the pass that
// brings the data elsewhere.
package verity
