package restore

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// asCRIU has a socket share its port as CRIU lets all do while it restores.
func asCRIU(_, _ string, c syscall.RawConn) (err error) {
	cerr := c.Control(func(fd uintptr) {
		err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	})
	return errors.Join(err, cerr)
}

func inUse(err error) bool { return errors.Is(err, unix.EADDRINUSE) }
