package verity

import (
	"errors"
	"io"
	"os"
)

// maxHeld is how much of a level is held in memory, in bytes: that of 4 GiB of data.
// What is more lies in a temporary file, so that memory does not grow with a layer.
const maxHeld = 32 << 20

// store is the blocks of one level.
type store struct {
	dir  string // of the file
	held []byte
	max  int
	file *os.File // what is behind held; nil: nothing
	size int64    // in the file
}

func (s *store) Write(p []byte) (int, error) {
	if len(s.held)+len(p) <= s.max || len(s.held) == 0 {
		s.held = append(s.held, p...)
		return len(p), nil
	}
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, "lithify-verity-*")
		if err != nil {
			return 0, err
		}
		s.file = f
	}
	n, err := s.file.Write(p)
	s.size += int64(n)
	return n, err
}

func (s *store) writeTo(w io.Writer) error {
	if _, err := w.Write(s.held); err != nil || s.file == nil {
		return err
	}
	_, err := io.Copy(w, io.NewSectionReader(s.file, 0, s.size))
	return err
}

func (s *store) close() error {
	if s.file == nil {
		return nil
	}
	return errors.Join(s.file.Close(), os.Remove(s.file.Name()))
}
