package verity

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
)

// BlockSize is of data and of hashes, in bytes.
const BlockSize = 4096

// merkle hashes a stream block by block, and the hashes in blocks again. It holds
// one unfinished block for each level; whole ones go to its stores, if they are kept.
type merkle struct {
	salt   []byte
	sum    hash.Hash
	part   []byte // of a block of data
	levels []level
	keep   func() *store // nil: blocks of hashes are not kept
	size   int64         // of the data, in bytes
	root   [sha256.Size]byte
	buf    [sha256.Size]byte
}

// level is the hashes of the blocks of one level, from the leaves up.
type level struct {
	part []byte // a block that is not full yet
	full *store
}

func newMerkle(salt []byte, keep func() *store) *merkle {
	return &merkle{salt: salt, sum: sha256.New(), part: make([]byte, 0, BlockSize), keep: keep}
}

// digest is a block's hash, valid until the next call.
func (m *merkle) digest(block []byte) []byte {
	m.sum.Reset()
	m.sum.Write(m.salt)
	m.sum.Write(block)
	return m.sum.Sum(m.buf[:0])
}

func (m *merkle) write(p []byte) error {
	m.size += int64(len(p))
	if len(m.part) > 0 {
		k := min(len(p), BlockSize-len(m.part))
		m.part = append(m.part, p[:k]...)
		p = p[k:]
		if len(m.part) < BlockSize {
			return nil
		}
		if err := m.add(0, m.digest(m.part)); err != nil {
			return err
		}
		m.part = m.part[:0]
	}
	for ; len(p) >= BlockSize; p = p[BlockSize:] {
		if err := m.add(0, m.digest(p[:BlockSize])); err != nil {
			return err
		}
	}
	m.part = append(m.part, p...)
	return nil
}

// add appends a hash to level i, and the hash of a block that it fills to the next.
func (m *merkle) add(i int, sum []byte) error {
	if i == len(m.levels) {
		l := level{part: make([]byte, 0, BlockSize)}
		if m.keep != nil {
			l.full = m.keep()
		}
		m.levels = append(m.levels, l)
	}
	l := &m.levels[i]
	l.part = append(l.part, sum...)
	if len(l.part) < BlockSize {
		return nil
	}
	return m.close(i)
}

// close hashes the block of level i, which is full.
func (m *merkle) close(i int) error {
	l := &m.levels[i]
	if l.full != nil {
		if _, err := l.full.Write(l.part); err != nil {
			return err
		}
	}
	err := m.add(i+1, m.digest(l.part))
	m.levels[i].part = l.part[:0] // add may have moved the levels
	return err
}

// finish fills up what is unfinished, and knows the root.
func (m *merkle) finish() error {
	if len(m.part) > 0 {
		if err := m.add(0, m.digest(filled(m.part))); err != nil {
			return err
		}
		m.part = m.part[:0]
	}
	for i := 0; i < len(m.levels); i++ {
		part := m.levels[i].part
		if i == len(m.levels)-1 && len(part) == sha256.Size {
			copy(m.root[:], part)
			m.levels = m.levels[:i]
			return nil
		}
		if len(part) == 0 {
			continue
		}
		m.levels[i].part = filled(part)
		if err := m.close(i); err != nil {
			return err
		}
	}
	return nil // no data, no root
}

// filled is a block with zeros behind p.
func filled(p []byte) []byte {
	n := len(p)
	p = p[:BlockSize]
	clear(p[n:])
	return p
}

// replaceFirst puts another block in the place of the first one of the data, after
// finish: its hash and those on the way up to the root change.
func (m *merkle) replaceFirst(block []byte) {
	sum := m.digest(block)
	for _, l := range m.levels {
		first := l.full.held[:BlockSize]
		copy(first, sum)
		sum = m.digest(first)
	}
	copy(m.root[:], sum)
}

func (m *merkle) discard() error {
	var errs []error
	for _, l := range m.levels {
		if l.full != nil {
			errs = append(errs, l.full.close())
		}
	}
	return errors.Join(errs...)
}

// writeLevels writes the kept blocks as they lie on disk: from the root down.
func (m *merkle) writeLevels(w io.Writer) error {
	for i := len(m.levels) - 1; i >= 0; i-- {
		if err := m.levels[i].full.writeTo(w); err != nil {
			return err
		}
	}
	return nil
}
