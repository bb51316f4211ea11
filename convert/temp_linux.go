package convert

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// nameless opens a file without a name, which ext4, xfs, btrfs, tmpfs and
// overlayfs can do: O_TMPFILE of open(2), which also lists the errors of a file
// system that cannot.
func nameless(dir string) (*Scratch, error) {
	f, err := os.OpenFile(dir, unix.O_TMPFILE|os.O_RDWR, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		return nil, errors.ErrUnsupported
	}
	if err != nil {
		return nil, err
	}
	return &Scratch{File: f}, nil
}
