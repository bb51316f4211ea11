package convert

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// link gives the file, once it is on the disk, a name that nothing has yet, for everybody to
// read: linkat(2) on what /proc says f is. The directory is on the same file system.
func (s *Scratch) link(name string) error {
	if err := errors.Join(s.Chmod(0o644), s.Sync()); err != nil {
		return err
	}
	if s.path != "" {
		return os.Link(s.path, name)
	}
	err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", s.Fd()), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &os.PathError{Op: "link", Path: name, Err: err}
	}
	return nil
}

// syncDir has the names in a directory survive a crash.
func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// lockCache keeps other exports out of a cache until unlock is called.
func lockCache(dir string) (unlock func() error, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = &ConflictError{dir, "is being exported to by another process; try again when that has ended"}
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d.Close, nil
}
