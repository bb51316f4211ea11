//go:build !windows

package convert

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// holdMark makes a file that is locked as long as this process has it open.
func holdMark(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return f, lock(f)
}

func releaseMark(mark *os.File) error {
	return errors.Join(os.Remove(mark.Name()), mark.Close())
}

// removeMark removes one that nobody holds. (Between the two calls of holdMark it can be taken for
// such; what then fails is the other's removing. Here nobody writes block CIMs.)
func removeMark(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := lock(f); err != nil {
		return err
	}
	return os.Remove(path)
}

func lock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
