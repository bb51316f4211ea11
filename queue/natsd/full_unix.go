//go:build unix

package natsd

import (
	"errors"

	"golang.org/x/sys/unix"
)

// isFull reports whether a write had no room.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) }
