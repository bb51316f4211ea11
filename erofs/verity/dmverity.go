package verity

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
)

// dm-verity's superblock: cryptsetup lib/verity/verity.c, struct verity_sb. Little
// endian. It takes a block of hashes.
const (
	superMagic   = "verity\x00\x00"
	superVersion = 1
	hashType     = 1 // the salt before the block, as all but Chrome OS have it
	algorithm    = "sha256"
	saltAt       = 88
)

// Salt is that of every [Tree]: 32 zero bytes, as containerd (2.4) has it, so that
// the root digest of an image is the one that containerd finds for it, whoever makes
// the tree and when. A salt keeps hashes of blocks from being prepared for many
// images at once, which for SHA-256 nobody can; it is no secret.
var Salt [32]byte

// Tree is dm-verity's, of what is written to it.
type Tree struct{ m *merkle }

// NewTree begins a tree. Of hashes that do not fit into 32 MiB, those of data over
// 4 GiB, some lie in files in dir, by default os.TempDir(). Close it.
func NewTree(dir string) *Tree {
	return &Tree{newMerkle(Salt[:], func() *store { return &store{dir: dir, max: maxHeld} })}
}

// Write adds data. The error is that of a temporary file.
func (t *Tree) Write(p []byte) (int, error) {
	if err := t.m.write(p); err != nil {
		return 0, fmt.Errorf("keep the hashes of a dm-verity tree: %w", err)
	}
	return len(p), nil
}

// Finish ends the data, a multiple of BlockSize bytes and not empty, whose first
// block counts as first, whatever was written.
func (t *Tree) Finish(first []byte) error {
	if t.m.size == 0 || t.m.size%BlockSize != 0 || len(first) != BlockSize {
		return fmt.Errorf("dm-verity tree of %d bytes, the first %d anew: want whole blocks of %d", t.m.size, len(first), BlockSize)
	}
	if err := t.m.finish(); err != nil {
		return fmt.Errorf("keep the hashes of a dm-verity tree: %w", err)
	}
	t.m.replaceFirst(first)
	return nil
}

// Root is the root digest, after Finish.
func (t *Tree) Root() digest.Digest { return digest.NewDigestFromBytes(digest.SHA256, t.m.root[:]) }

// Append writes what belongs behind the data, after Finish: the superblock with id,
// which must not be zero, and the tree.
func (t *Tree) Append(w io.Writer, id uuid.UUID) error {
	super := superblock(uint64(t.m.size/BlockSize), id)
	if _, err := w.Write(super[:]); err != nil {
		return err
	}
	return t.m.writeLevels(w)
}

// Close removes the temporary files.
func (t *Tree) Close() error { return t.m.discard() }

func superblock(blocks uint64, id uuid.UUID) (b [BlockSize]byte) {
	le := binary.LittleEndian
	copy(b[:], superMagic)
	le.PutUint32(b[8:], superVersion)
	le.PutUint32(b[12:], hashType)
	copy(b[16:], id[:])
	copy(b[32:], algorithm)
	le.PutUint32(b[64:], BlockSize) // of data
	le.PutUint32(b[68:], BlockSize) // of hashes
	le.PutUint64(b[72:], blocks)
	le.PutUint16(b[80:], uint16(len(Salt)))
	copy(b[saltAt:], Salt[:])
	return b
}

// Size is how many bytes Append writes behind data bytes, a multiple of BlockSize.
func Size(data int64) int64 {
	const fan = BlockSize / sha256.Size
	size := int64(BlockSize)
	for n := data / BlockSize; n > 1; {
		n = (n + fan - 1) / fan
		size += n * BlockSize
	}
	return size
}
