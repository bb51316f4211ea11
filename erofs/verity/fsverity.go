package verity

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/opencontainers/go-digest"
)

// FileDigest computes fs-verity's digest of what is written to it, as `fsverity
// digest` does by default: SHA-256, blocks of 4096 bytes, no salt.
type FileDigest struct{ m *merkle }

// NewFileDigest begins with an empty file.
func NewFileDigest() *FileDigest { return &FileDigest{newMerkle(nil, nil)} }

// Write adds data. It never fails.
func (d *FileDigest) Write(p []byte) (int, error) { return len(p), d.m.write(p) }

// Digest ends the file: it is that of the kernel's struct fsverity_descriptor
// (include/uapi/linux/fsverity.h), which holds the tree's root and the file's size.
func (d *FileDigest) Digest() digest.Digest {
	const (
		version   = 1
		sha256Alg = 1 // FS_VERITY_HASH_ALG_SHA256
		blockBits = 12
	)
	size := d.m.size
	d.m.finish() // which fails only where blocks are kept
	var b [256]byte
	b[0], b[1], b[2] = version, sha256Alg, blockBits
	binary.LittleEndian.PutUint64(b[8:], uint64(size))
	copy(b[16:], d.m.root[:])
	return digest.NewDigestFromBytes(digest.SHA256, sum(b[:]))
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}
