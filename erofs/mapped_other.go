//go:build !linux

package erofs

import (
	"errors"
	"os"
)

// MapFile is not supported on this system.
func MapFile(*os.File, int64, int) ([]byte, func() error, error) {
	return nil, nil, errors.ErrUnsupported
}
