//go:build unix

package queue

import (
	"errors"
	"syscall"
)

// alive reports whether a process of this number exists.
func alive(pid int) bool {
	return pid > 0 && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}
