package archive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"google.golang.org/protobuf/encoding/protowire"
)

// Socket is one of the Internet's that a process has open.
type Socket struct {
	Protocol string         `json:"protocol"` // tcp or udp
	Local    netip.AddrPort `json:"local"`
	Remote   netip.AddrPort `json:"remote,omitzero"` // of one that is connected
	Listens  bool           `json:"listens,omitempty"`
	// Anywhere says that it may have an address that its machine has not (IP_FREEBIND).
	Anywhere bool `json:"anywhere,omitempty"`
}

// Connected says that the other end has a state of the connection, too.
func (s Socket) Connected() bool { return s.Protocol == "tcp" && s.Remote.Port() != 0 }

// Loopback says that no other machine has to do with a connection.
func (s Socket) Loopback() bool {
	return s.Local.Addr().IsLoopback() && s.Remote.Addr().IsLoopback()
}

func (s Socket) String() string {
	at := s.Protocol + " " + s.Local.String()
	if s.Remote.Port() != 0 {
		at += " to " + s.Remote.String()
	}
	return at
}

// The values of inet_sk_entry (sk-inet.proto), which are the kernel's.
const (
	fileInet    = 4
	fileTimer   = 17
	afInet      = 2
	afInet6     = 10
	protocolTCP = 6
	protocolUDP = 17
	tcpListen   = 10
)

// socket reads an inet_sk_entry. Of protocols that CRIU does not dump there is none.
func socket(f fields) (s Socket, err error) {
	if err := f.required(3, 5, 6, 7, 8); err != nil {
		return s, err
	}
	switch f.word(5) {
	case protocolTCP:
		s.Protocol = "tcp"
	case protocolUDP:
		s.Protocol = "udp"
	default:
		s.Protocol = fmt.Sprintf("protocol %d", f.word(5))
	}
	if s.Local, err = f.addrPort(11, 7); err != nil {
		return s, err
	}
	if s.Remote, err = f.addrPort(12, 8); err != nil {
		return s, err
	}
	if s.Remote.Port() == 0 {
		s.Remote = netip.AddrPort{}
	}
	s.Listens = s.Protocol == "tcp" && f.word(6) == tcpListen
	ip, err := f.sub(16)
	s.Anywhere = ip.number(1) != 0
	return s, err
}

// addrPort is an address: the bytes that the kernel had, taken for little-endian words.
func (f fields) addrPort(addr, port protowire.Number) (netip.AddrPort, error) {
	words, err := f.words(addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	want := 1
	if f.word(3) == afInet6 {
		want = 4
	}
	if len(words) < want || f.word(3) != afInet && f.word(3) != afInet6 {
		return netip.AddrPort{}, errors.New("a socket has no address of its family")
	}
	var b []byte
	for _, w := range words[:want] {
		b = binary.LittleEndian.AppendUint32(b, uint32(w))
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(f.word(port))), nil
}
