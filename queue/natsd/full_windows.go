package natsd

import (
	"errors"

	"golang.org/x/sys/windows"
)

// isFull reports whether a write had no room. The system says it in two ways; ENOSPC
// is in neither.
func isFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}
