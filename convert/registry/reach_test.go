package registry_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/convert/registry"
)

// What cannot be reached is unavailable, whatever stands in the way. A name that
// nobody knows is asked for once: it is a typing error more often than not.
func TestUnreachable(t *testing.T) {
	const attempts = 5
	for _, c := range []struct {
		name    string
		dial    error
		refused bool // another attempt will not help, here or later
		dials   int32
	}{
		{name: "no such host", dial: &net.DNSError{Err: "no such host", Name: "registry.invalid", IsNotFound: true}, dials: 1},
		{name: "name server away", dial: &net.DNSError{Err: "server misbehaving", Name: "registry.invalid", IsTemporary: true}, dials: attempts},
		{name: "connection refused", dial: os.NewSyscallError("connect", syscall.ECONNREFUSED), dials: attempts},
		{name: "no route", dial: os.NewSyscallError("connect", syscall.EHOSTUNREACH), dials: attempts},
		{name: "no network", dial: os.NewSyscallError("connect", syscall.ENETUNREACH), dials: attempts},
		{name: "no such port", dial: &net.AddrError{Err: "invalid port", Addr: "99999"}, refused: true, dials: 1},
	} {
		// ggcr would ask the second by plain HTTP, too, which is not allowed.
		for _, host := range []string{"registry.invalid", "10.1.2.3:5000"} {
			t.Run(c.name+", "+host, func(t *testing.T) {
				var dials atomic.Int32
				o := options().WithoutWaiting(func(time.Duration) {})
				o.Transport = &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
					dials.Add(1)
					return nil, &net.OpError{Op: "dial", Net: "tcp", Err: c.dial}
				}}
				dst, err := registry.Create(host+"/app:v1", o)
				if err != nil {
					t.Fatal(err)
				}
				desc := describe("application/octet-stream", "a layer")
				for what, f := range map[string]func() error{
					"Root": func() error { _, err := dst.Root(t.Context()); return err },
					"Push": func() error { return dst.Push(t.Context(), desc, opener("a layer")) },
				} {
					dials.Store(0)
					err := f()
					if err == nil || errors.Is(err, errdefs.ErrUnavailable) == c.refused {
						t.Errorf("%s = %v, unavailable is %v", what, err, !c.refused)
					}
					if got := dials.Load(); got < c.dials || c.dials == 1 && got > 1 {
						t.Errorf("%s dialled %d times, want %d", what, got, c.dials)
					}
				}
			})
		}
	}
}
