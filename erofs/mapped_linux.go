package erofs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// MapFile is Map of a [Mapper] whose bytes are those of f. off is a multiple of the page size.
// A page that cannot be read is a fault, see debug.SetPanicOnFault.
func MapFile(f *os.File, off int64, n int) ([]byte, func() error, error) {
	p, err := unix.Mmap(int(f.Fd()), off, n, unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil { // the file system maps no files, or there is no room for it: reading may work
		return nil, nil, fmt.Errorf("%w: %w", errors.ErrUnsupported, os.NewSyscallError("mmap", err))
	}
	return p, func() error { return os.NewSyscallError("munmap", unix.Munmap(p)) }, nil
}
