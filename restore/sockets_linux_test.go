package restore

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/restore/archive"
)

// What CRIU could not make of the sockets is refused, with what to do.
func TestConnects(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	used := taken.Addr().String()
	at := netip.MustParseAddrPort
	connection := archive.Socket{Protocol: "tcp", Local: at("10.88.0.2:4000"), Remote: at("10.88.0.3:80")}
	listens := func(addr string) archive.Socket {
		return archive.Socket{Protocol: "tcp", Local: at(addr), Listens: true}
	}
	for _, tc := range []struct {
		name   string
		opts   Options
		shared archive.Shared
		want   string // "": it is not refused
	}{
		{"nothing", Options{Network: NoNetwork}, archive.Shared{}, ""},
		{"a connection", Options{Network: NoNetwork}, archive.Shared{Sockets: []archive.Socket{connection}}, "10.88.0.2:4000 to 10.88.0.3:80): say --tcp-close"},
		{"many", Options{Network: NoNetwork}, archive.Shared{Sockets: []archive.Socket{connection, connection, connection, connection, connection}}, "and 2 others"},
		{"closed", Options{Network: NoNetwork, TCPClose: true}, archive.Shared{Sockets: []archive.Socket{connection}}, ""},
		{"closed by the dump", Options{Network: NoNetwork}, archive.Shared{Closed: true, Sockets: []archive.Socket{connection}}, ""},
		{"to go on without its network", Options{Network: NoNetwork, TCPEstablished: true}, archive.Shared{Sockets: []archive.Socket{connection}}, "need the network of the dump"},
		{"to go on", Options{Network: HostNetwork, TCPEstablished: true}, archive.Shared{Sockets: []archive.Socket{connection}}, ""},
		{"to go on in the only clone", Options{Network: HostNetwork, TCPEstablished: true, Clone: "1/1"}, archive.Shared{Sockets: []archive.Socket{connection}}, ""},
		{"to go on in each of many", Options{Network: HostNetwork, TCPEstablished: true, Clone: "1/11"}, archive.Shared{Sockets: []archive.Socket{connection}}, "one of several (1/11)"},
		{"everywhere", Options{Network: NoNetwork}, archive.Shared{Sockets: []archive.Socket{listens("0.0.0.0:80"), listens("[::]:80"), listens("127.0.0.1:80")}}, ""},
		{"an address that is gone", Options{Network: NoNetwork}, archive.Shared{Sockets: []archive.Socket{listens("10.88.0.2:80")}}, "tcp 10.88.0.2:80, and the container has no such address"},
		{"that it may have all the same", Options{Network: NoNetwork}, archive.Shared{Sockets: []archive.Socket{{Protocol: "tcp", Local: at("10.88.0.2:80"), Listens: true, Anywhere: true}}}, ""},
		{"not of this machine", Options{Network: HostNetwork}, archive.Shared{Sockets: []archive.Socket{listens("192.0.2.1:80")}}, "no such address"},
		{"a free port", Options{Network: HostNetwork}, archive.Shared{Sockets: []archive.Socket{listens("127.0.0.1:0")}}, ""},
		{"a port that is in use", Options{Network: HostNetwork}, archive.Shared{Sockets: []archive.Socket{listens(used)}}, used + ", and that port is in use"},
		{"by others alone", Options{Network: NoNetwork}, archive.Shared{Sockets: []archive.Socket{listens(used)}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := (&run{opts: tc.opts}).connects(t.Context(), &checkpoint{shared: &tc.shared})
			if tc.want == "" && err != nil || tc.want != "" && (!errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}
