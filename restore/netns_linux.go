package restore

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// newNetNS makes a network namespace with its loopback device on, mounted at file.
func newNetNS(file string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return err
	}
	return apart(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() error {
		if err := loopbackUp(); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", file, "", unix.MS_BIND, "")
	})
}

// isNetNS reports whether a network namespace is mounted at file.
func isNetNS(file string) (bool, error) {
	var fs unix.Statfs_t
	err := unix.Statfs(file, &fs)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil && int64(fs.Type) == unix.NSFS_MAGIC, err
}

// removeNetNS removes one, which ends with its last process.
func removeNetNS(file string) error {
	err := unix.Unmount(file, unix.MNT_DETACH)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // after a restart of the machine
		err = nil
	}
	if err == nil {
		err = os.Remove(file)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
