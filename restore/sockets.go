package restore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/restore/archive"
)

// criuConfig is the annotation by which runc has CRIU read a file of options: containerd's
// shim passes none of them on (runc 1.5.2, criu_linux.go). It takes the place of the
// machine's /etc/criu/runc.conf for this container.
const criuConfig = "org.criu.config"

// configFile is that file.
func (r *run) configFile() string { return filepath.Join(r.state(), "criu.conf") }

// criuOptions are those that CRIU has to be told.
func (r *run) criuOptions(cp *checkpoint) (all []string) {
	if r.opts.TCPClose || cp.shared.Closed {
		all = append(all, "tcp-close")
	}
	if r.opts.TCPEstablished {
		all = append(all, "tcp-established")
	}
	if cp.shared.Locks {
		all = append(all, "file-locks")
	}
	return all
}

// configure writes the file, if there is anything to be told.
func (r *run) configure(cp *checkpoint) error {
	all := r.criuOptions(cp)
	if len(all) == 0 {
		return nil
	}
	return os.WriteFile(r.configFile(), []byte(strings.Join(all, "\n")+"\n"), 0o600)
}

// connects refuses sockets that CRIU could not make here, each with what to do. CRIU says it
// in the middle of its log, once everything else is there.
func (r *run) connects(ctx context.Context, cp *checkpoint) error {
	if !cp.shared.Closed {
		if err := r.connections(cp.shared.Sockets); err != nil {
			return err
		}
	}
	switch r.opts.Network {
	case NoNetwork:
		return addresses(cp.shared.Sockets, nil)
	case HostNetwork:
		here, err := hostAddresses()
		if err == nil {
			err = errors.Join(addresses(cp.shared.Sockets, here), ports(ctx, cp.shared.Sockets))
		}
		return err
	}
	return nil
}

// connections looks at those that have another end.
func (r *run) connections(all []archive.Socket) error {
	all = slices.DeleteFunc(slices.Clone(all), func(s archive.Socket) bool { return !s.Connected() })
	switch {
	case len(all) == 0, r.opts.TCPClose:
		return nil
	case !r.opts.TCPEstablished:
		return fmt.Errorf("the checkpoint has open TCP connections (%s): say --tcp-close to have the processes find them closed, or --tcp-established to go on with them: %w", some(all), errdefs.ErrFailedPrecondition)
	case r.opts.Network == NoNetwork:
		return fmt.Errorf("the checkpoint has open TCP connections (%s), which need the network of the dump: say --tcp-close: %w", some(all), errdefs.ErrFailedPrecondition)
	case r.opts.Clone != "" && !r.opts.alone():
		return fmt.Errorf("the checkpoint has open TCP connections (%s), and the container is one of several (%s): the other end has one; say --tcp-close: %w", some(all), r.opts.Clone, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// alone says that of a container there is no other clone.
func (o Options) alone() bool { return strings.HasSuffix(o.Clone, "/1") }

// maxSockets is how many an error names.
const maxSockets = 3

func some(all []archive.Socket) string {
	var names []string
	for i, s := range all {
		if i == maxSockets {
			names = append(names, fmt.Sprintf("and %d others", len(all)-i))
			break
		}
		names = append(names, s.String())
	}
	return strings.Join(names, ", ")
}

// addresses refuses sockets that are bound to an address which the container has not.
func addresses(all []archive.Socket, here []netip.Addr) error {
	for _, s := range all {
		a := s.Local.Addr()
		if s.Connected() || s.Anywhere || a.IsUnspecified() || a.IsLoopback() || s.Local.Port() == 0 || slices.Contains(here, a) {
			continue
		}
		return fmt.Errorf("a process of the checkpoint has %s, and the container has no such address: a process that listens on 0.0.0.0 or :: can be restored with any: %w", s, errdefs.ErrFailedPrecondition)
	}
	return nil
}

func hostAddresses() (all []netip.Addr, err error) {
	given, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of this machine: %w", err)
	}
	for _, a := range given {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, p.Addr().Unmap())
		}
	}
	return all, nil
}

// ports refuses sockets whose ports somebody has on this machine.
func ports(ctx context.Context, all []archive.Socket) error {
	listen := net.ListenConfig{Control: asCRIU}
	for _, s := range all {
		var c interface{ Close() error }
		var err error
		switch {
		case s.Listens:
			c, err = listen.Listen(ctx, "tcp", s.Local.String())
		case s.Protocol == "udp" && s.Local.Port() != 0:
			c, err = listen.ListenPacket(ctx, "udp", s.Local.String())
		default:
			continue
		}
		if err == nil {
			err = c.Close()
		} else if inUse(err) {
			err = fmt.Errorf("a process of the checkpoint has %s, and that port is in use on this machine: end what has it, or restore a container that was dumped with a network of its own: %w", s, errdefs.ErrFailedPrecondition)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
