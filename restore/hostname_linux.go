package restore

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// rename gives the container of a process a hostname: CRIU has restored the one that was
// dumped. "" leaves that.
func rename(p *held, hostname string) error {
	if hostname == "" {
		return nil
	}
	ns, err := os.Open(p.path("ns/uts"))
	if err != nil {
		return fmt.Errorf("hostname: %w", err)
	}
	defer ns.Close()
	done := make(chan error, 1)
	go func() { // on a thread of its own, which ends with it
		runtime.LockOSThread()
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWUTS)
		if err == nil {
			err = unix.Sethostname([]byte(hostname))
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("hostname: %w", err)
	}
	return nil
}
