package convert

import (
	"errors"
	"fmt"
	"os"
)

// ErrTemp says that this machine has no place for a temporary file. Another one
// may have.
var ErrTemp = errors.New("temporary file")

// TempFile makes a file in dir, or in os.TempDir(), that is gone once it is
// closed. Where the system allows it never has a name, so that not even a killed
// process leaves it behind.
func TempFile(dir string) (*Scratch, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	f, err := nameless(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		f, err = named(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTemp, err)
	}
	return f, nil
}

// Scratch is a temporary file.
type Scratch struct {
	*os.File
	path string // empty if it has none
}

func named(dir string) (*Scratch, error) {
	f, err := os.CreateTemp(dir, "lithify-*.erofs")
	if err != nil {
		return nil, err
	}
	return &Scratch{f, f.Name()}, nil
}

// Close removes the file.
func (s *Scratch) Close() error {
	err := s.File.Close()
	if s.path != "" {
		err = errors.Join(err, os.Remove(s.path))
	}
	return err
}
