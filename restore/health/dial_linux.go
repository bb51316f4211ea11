package health

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// DialIn connects to an address, which holds no name, from the network of a process.
func DialIn(ctx context.Context, pid uint32, address string) (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread is in another network then: it ends with this goroutine, which does not
		// unlock it. The dialer makes the socket in the goroutine that calls it, as there is
		// nothing to look up and one address alone.
		runtime.LockOSThread()
		ns, operr := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if operr != nil {
			err = operr
			return
		}
		defer ns.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("network of process %d: %w", pid, err)
			return
		}
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", address)
	}()
	<-done
	return conn, err
}
