package registry

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockAt lies behind every byte of the file: locks on Windows keep others from
// reading what they cover.
const lockAt = 1 << 30

func tryLock(f *os.File) (bool, error) {
	at := &windows.Overlapped{Offset: lockAt}
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, err
}

// syncDir has nothing to do: a directory cannot be synced on Windows.
func syncDir(*os.Root, string) error { return nil }
