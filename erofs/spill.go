package erofs

import (
	"errors"
	"fmt"
	"io"
	"os"
)

const (
	spillChunk = 1 << 20
	// spillHeld is how much of a spill stays in memory.
	spillHeld = 8 << 20
)

// spill keeps bytes until they are written somewhere else: in memory, and in a temporary
// file where there are many. The zero value is ready to use, in os.TempDir().
type spill struct {
	dir  string
	size int64
	held [][]byte // the first chunks
	cur  []byte   // the last one, which is not full
	f    *os.File // those between
}

func (s *spill) write(p []byte) error {
	for len(p) > 0 {
		if s.cur == nil {
			s.cur = make([]byte, 0, spillChunk)
		}
		k := min(len(p), spillChunk-len(s.cur))
		s.cur = append(s.cur, p[:k]...)
		p = p[k:]
		s.size += int64(k)
		if len(s.cur) < spillChunk {
			return nil
		}
		if err := s.turn(); err != nil {
			return err
		}
	}
	return nil
}

// turn puts the full chunk where it stays.
func (s *spill) turn() error {
	if len(s.held) < spillHeld/spillChunk {
		s.held = append(s.held, s.cur)
		s.cur = nil
		return nil
	}
	if s.f == nil {
		f, err := os.CreateTemp(s.dir, "lithify-*.spill")
		if err != nil {
			return err
		}
		s.f = f
	}
	if _, err := s.f.WriteAt(s.cur, s.size-spillChunk-spillHeld); err != nil {
		return fmt.Errorf("write what does not fit in memory: %w", err)
	}
	s.cur = s.cur[:0]
	return nil
}

// ReadAt reads what has been written.
func (s *spill) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) && err == nil {
		var k int
		k, err = s.readChunk(p[n:], off+int64(n))
		n += k
	}
	return n, err
}

// readChunk reads from one chunk.
func (s *spill) readChunk(p []byte, off int64) (int, error) {
	i, at := off/spillChunk, off%spillChunk
	switch {
	case off < 0 || off >= s.size:
		return 0, io.EOF
	case i < int64(len(s.held)):
		return copy(p, s.held[i][at:]), nil
	case off >= s.size-int64(len(s.cur)):
		return copy(p, s.cur[at:]), nil
	}
	n, err := s.f.ReadAt(p[:min(int64(len(p)), spillChunk-at)], off-spillHeld)
	if err != nil {
		err = fmt.Errorf("read what did not fit in memory: %w", err)
	}
	return n, err
}

// close removes the file.
func (s *spill) close() error {
	s.held, s.cur = nil, nil
	if s.f == nil {
		return nil
	}
	return errors.Join(s.f.Close(), os.Remove(s.f.Name()))
}
