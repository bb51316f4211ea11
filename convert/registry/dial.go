package registry

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

const (
	dialTimeout  = 30 * time.Second
	tlsTimeout   = 10 * time.Second // http.DefaultTransport's
	proxyTimeout = time.Minute      // net/http's, for the answer to a CONNECT
	// connectTimeout is all it takes until a request can be sent, at most: through a
	// proxy that speaks TLS itself.
	connectTimeout = dialTimeout + tlsTimeout + proxyTimeout + tlsTimeout
	// A registry that composes a blob of many gigabytes after the last byte of a
	// PUT is silent for minutes; longer than this it is taken for dead.
	headerTimeout = 15 * time.Minute
	// Layers are fetched and pushed side by side over HTTP/1 too.
	idlePerHost = 32
)

var (
	anywhere   = sync.OnceValue(func() *http.Transport { return defaultTransport() })
	publicOnly = sync.OnceValue(func() *http.Transport { return onlyPublic(defaultTransport()) })
)

func defaultTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	t.TLSHandshakeTimeout = tlsTimeout
	t.ResponseHeaderTimeout = headerTimeout
	t.MaxIdleConnsPerHost = idlePerHost
	return t
}

func carrier(rt http.RoundTripper, deny bool) (http.RoundTripper, error) {
	switch t := rt.(type) {
	case nil:
		if deny {
			return publicOnly(), nil
		}
		return anywhere(), nil
	case *http.Transport:
		if deny {
			return onlyPublic(t.Clone()), nil
		}
	default:
		if deny {
			return nil, invalid("private addresses cannot be denied on a %T", rt)
		}
	}
	return rt, nil
}

// onlyPublic checks the address that is about to be connected to, so that a name
// that resolves to something else the second time gains nothing.
func onlyPublic(t *http.Transport) *http.Transport {
	d := &net.Dialer{Timeout: dialTimeout, ControlContext: denyPrivate}
	t.Proxy, t.DialContext, t.DialTLSContext = nil, d.DialContext, nil
	return t
}

func denyPrivate(_ context.Context, _, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || !public(ap.Addr()) {
		return &Error{
			text:  fmt.Sprintf("connection to %s: the address is not public", address),
			kinds: []error{errdefs.ErrPermissionDenied},
		}
	}
	return nil
}

// notPublic are the special ranges that netip's own predicates do not know,
// among them those that carry an IPv4 address inside.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"),
	netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/32"),
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("fec0::/10"),
}

func public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(a) {
			return false
		}
	}
	return true
}
