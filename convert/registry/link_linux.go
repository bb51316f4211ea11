package registry

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// link gives f the name in dir, also if it has none yet: linkat(2) on what
// /proc says f is.
func link(f *os.File, dir *os.Root, name string) error {
	at, err := dir.Open(path.Dir(name))
	if err != nil {
		return err
	}
	err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), int(at.Fd()), path.Base(name), unix.AT_SYMLINK_FOLLOW)
	return errors.Join(err, at.Close())
}
