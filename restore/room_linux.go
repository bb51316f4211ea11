package restore

import (
	"fmt"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// room refuses what needs more bytes than the file system of dir has.
func room(dir string, bytes int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("room in %s: %w", dir, err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < bytes {
		return fmt.Errorf("it takes %d MiB at least, and %s has %d: make room there or give another --restore-root: %w", bytes>>20, dir, free>>20, errdefs.ErrFailedPrecondition)
	}
	return nil
}
