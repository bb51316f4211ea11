package restore

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncAll writes the file system of dir to the disk: pages that a power cut has left out
// nobody would miss, but the process that is restored of them.
func syncAll(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}
