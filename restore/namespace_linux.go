package restore

import (
	"context"
	"errors"
	"fmt"
	"net"
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
	err := p.within("uts", unix.CLONE_NEWUTS, func() error { return unix.Sethostname([]byte(hostname)) })
	if err != nil {
		return fmt.Errorf("hostname: %w", err)
	}
	return nil
}

// loopback turns the container's loopback device on, which is all it has: runc has CRIU
// make an empty network, in which that is off.
func loopback(p *held) error {
	if err := p.within("net", unix.CLONE_NEWNET, loopbackUp); err != nil {
		return fmt.Errorf("loopback device: %w", err)
	}
	return nil
}

func loopbackUp() (err error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(s)) }()
	lo, err := unix.NewIfreq("lo")
	if err == nil {
		err = unix.IoctlIfreq(s, unix.SIOCGIFFLAGS, lo)
	}
	if err != nil {
		return err
	}
	lo.SetUint16(lo.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo)
}

// dial connects to an address, which holds no name, from the container's network. The dialer
// makes the socket in the goroutine that calls it, as there is nothing to look up and one
// address alone.
func dial(ctx context.Context, p *held, address string) (conn net.Conn, err error) {
	err = p.within("net", unix.CLONE_NEWNET, func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", address)
		return err
	})
	return conn, err
}

// within calls f in a namespace of the process.
func (p *held) within(ns string, kind int, f func() error) error {
	file, err := os.Open(p.path("ns/" + ns))
	if err != nil {
		return err
	}
	defer file.Close()
	return apart(func() error { return unix.Setns(int(file.Fd()), kind) }, f)
}

// apart calls f on a thread of its own that has entered a namespace, and ends with it.
func apart(enter, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := enter()
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}
