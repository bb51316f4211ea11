package proof

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// VerityTree is a dm-verity tree behind an image, by its superblock (cryptsetup
// lib/verity/verity.c, struct verity_sb).
type VerityTree struct {
	Offset     int64  // of the superblock
	Algorithm  string // sha256 or sha512
	BlockSize  int64  // of data and of hashes
	DataBlocks int64
	Salt       []byte

	levels []span // of the tree, the leaves' first
}

// span is where the blocks of one level lie.
type span struct{ off, blocks int64 }

const veritySuperSize = 512

// ReadVerity reads the superblock at off. One that is of a kind not read here is an
// errdefs.ErrNotImplemented.
func ReadVerity(image io.ReaderAt, off int64) (*VerityTree, error) {
	var b [veritySuperSize]byte
	if _, err := io.ReadFull(io.NewSectionReader(image, off, veritySuperSize), b[:]); err != nil {
		return nil, fmt.Errorf("read dm-verity superblock: %w", err)
	}
	le := binary.LittleEndian
	if string(b[:8]) != "verity\x00\x00" {
		return nil, errors.New("no dm-verity superblock")
	}
	name, _, _ := bytes.Cut(b[32:64], []byte{0})
	t := &VerityTree{
		Offset: off, Algorithm: string(name), BlockSize: int64(le.Uint32(b[64:])), DataBlocks: int64(le.Uint64(b[72:])),
	}
	salt := int(le.Uint16(b[80:]))
	switch {
	case le.Uint32(b[8:]) != 1 || le.Uint32(b[12:]) != 1:
		return nil, fmt.Errorf("dm-verity of version %d and hash type %d: %w", le.Uint32(b[8:]), le.Uint32(b[12:]), errdefs.ErrNotImplemented)
	case t.hash() == nil:
		return nil, fmt.Errorf("dm-verity by %q: %w", t.Algorithm, errdefs.ErrNotImplemented)
	case le.Uint32(b[68:]) != uint32(t.BlockSize):
		return nil, fmt.Errorf("dm-verity with hashes in blocks of another size: %w", errdefs.ErrNotImplemented)
	case t.BlockSize < 512 || t.BlockSize > 1<<16 || t.BlockSize&(t.BlockSize-1) != 0 || salt > 256:
		return nil, fmt.Errorf("damaged dm-verity superblock: blocks of %d bytes, a salt of %d", t.BlockSize, salt)
	case t.DataBlocks < 1 || t.DataBlocks > off/t.BlockSize:
		return nil, fmt.Errorf("damaged dm-verity superblock: %d blocks in %d bytes", t.DataBlocks, off)
	}
	t.Salt = b[88:][:salt]
	t.place()
	return t, nil
}

func (t *VerityTree) hash() hash.Hash {
	switch t.Algorithm {
	case "sha256":
		return sha256.New()
	case "sha512":
		return sha512.New()
	}
	return nil
}

// place finds the levels, of which the topmost lies behind the superblock.
func (t *VerityTree) place() {
	fan := t.BlockSize / int64(t.hash().Size())
	for n := t.DataBlocks; n > 1; {
		n = (n + fan - 1) / fan
		t.levels = append(t.levels, span{blocks: n})
	}
	at := t.Offset + t.BlockSize
	for i := len(t.levels) - 1; i >= 0; i-- {
		t.levels[i].off = at
		at += t.levels[i].blocks * t.BlockSize
	}
}

// End is where the tree ends.
func (t *VerityTree) End() int64 {
	if len(t.levels) == 0 {
		return t.Offset + t.BlockSize
	}
	return t.levels[0].off + t.levels[0].blocks*t.BlockSize
}

// Top is the digest of the topmost block, which is the root digest of a tree that holds
// together.
func (t *VerityTree) Top(image io.ReaderAt) (digest.Digest, error) {
	at := int64(0)
	if n := len(t.levels); n > 0 {
		at = t.levels[n-1].off
	}
	block := make([]byte, t.BlockSize)
	if _, err := io.ReadFull(io.NewSectionReader(image, at, t.BlockSize), block); err != nil {
		return "", fmt.Errorf("read dm-verity tree: %w", err)
	}
	return t.digest(t.merkle(nil).sum(block)), nil
}

func (t *VerityTree) digest(sum []byte) digest.Digest {
	return digest.NewDigestFromBytes(digest.Algorithm(t.Algorithm), sum)
}

func (t *VerityTree) merkle(full func(level int, block []byte) error) *merkle {
	return &merkle{hash: t.hash(), salt: t.Salt, block: int(t.BlockSize), full: full}
}

// Root reads all of the data, and computes the root digest of it. The error is a
// [TreeError] where the tree is not that of the data.
func (t *VerityTree) Root(ctx context.Context, image io.ReaderAt) (digest.Digest, error) {
	seen := make([]int64, len(t.levels))
	var differs error
	stored := make([]byte, t.BlockSize)
	m := t.merkle(func(level int, block []byte) error {
		at := t.levels[level].off + seen[level]*t.BlockSize
		seen[level]++
		if _, err := io.ReadFull(io.NewSectionReader(image, at, t.BlockSize), stored); err != nil {
			return fmt.Errorf("read dm-verity tree: %w", err)
		}
		if differs == nil && !bytes.Equal(stored, block) {
			differs = &TreeError{at}
		}
		return nil
	})
	root, err := m.run(ctx, io.NewSectionReader(image, 0, t.DataBlocks*t.BlockSize))
	if err != nil {
		return "", err
	}
	return t.digest(root), differs
}

// TreeError says that a block of a dm-verity tree is not what the data says.
type TreeError struct{ At int64 }

func (e *TreeError) Error() string {
	return fmt.Sprintf("the dm-verity tree's block at byte %d has hashes of other data", e.At)
}

// FSVerity computes the digest that fs-verity has of a file by default: SHA-256, blocks of
// 4096 bytes, no salt (include/uapi/linux/fsverity.h, struct fsverity_descriptor).
func FSVerity(ctx context.Context, file io.ReaderAt, size int64) (digest.Digest, error) {
	m := &merkle{hash: sha256.New(), block: 4096}
	root, err := m.run(ctx, io.NewSectionReader(file, 0, size))
	if err != nil {
		return "", err
	}
	d := make([]byte, 256)
	d[0], d[1], d[2] = 1, 1, 12
	binary.LittleEndian.PutUint64(d[8:], uint64(size))
	copy(d[16:], root)
	return digest.FromBytes(d), nil
}

// merkle hashes blocks, and the hashes in blocks again.
type merkle struct {
	hash   hash.Hash
	salt   []byte
	block  int
	full   func(level int, block []byte) error // of hashes; nil: nobody asks
	levels [][]byte
}

func (m *merkle) sum(block []byte) []byte {
	m.hash.Reset()
	m.hash.Write(m.salt)
	m.hash.Write(block)
	return m.hash.Sum(nil)
}

// run gives the root; nil of no data.
func (m *merkle) run(ctx context.Context, r io.Reader) ([]byte, error) {
	buf := make([]byte, max(1<<20, m.block))
	for {
		n, err := io.ReadFull(r, buf)
		for p := buf[:n]; len(p) > 0; p = p[min(m.block, len(p)):] {
			if err := m.add(0, m.sum(m.filled(p[:min(m.block, len(p))]))); err != nil {
				return nil, err
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return m.root()
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
	}
}

// filled is p with zeros up to a block.
func (m *merkle) filled(p []byte) []byte {
	if len(p) == m.block {
		return p
	}
	return append(bytes.Clone(p), make([]byte, m.block-len(p))...)
}

func (m *merkle) add(level int, sum []byte) error {
	if level == len(m.levels) {
		m.levels = append(m.levels, nil)
	}
	m.levels[level] = append(m.levels[level], sum...)
	if len(m.levels[level]) < m.block {
		return nil
	}
	return m.close(level)
}

func (m *merkle) close(level int) error {
	block := m.filled(m.levels[level])
	if m.full != nil {
		if err := m.full(level, block); err != nil {
			return err
		}
	}
	sum := m.sum(block)
	m.levels[level] = m.levels[level][:0]
	return m.add(level+1, sum)
}

func (m *merkle) root() ([]byte, error) {
	for i := 0; i < len(m.levels); i++ {
		if i == len(m.levels)-1 && len(m.levels[i]) == m.hash.Size() {
			return m.levels[i], nil
		}
		if len(m.levels[i]) > 0 {
			if err := m.close(i); err != nil {
				return nil, err
			}
		}
	}
	return nil, nil
}
