package health_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/restore/health"
)

// script is a container whose script ends as a function of the time since the start says.
type script struct {
	began time.Time
	run   func(context.Context, time.Duration) error
	ended chan error
}

func (s *script) Run(ctx context.Context, _ string) error { return s.run(ctx, time.Since(s.began)) }
func (s *script) Ended() <-chan error                     { return s.ended }
func (s *script) Dial(context.Context, string) (net.Conn, error) {
	return nil, errors.New("no network")
}

func TestWait(t *testing.T) {
	const s = time.Second
	after := func(d time.Duration) func(context.Context, time.Duration) error {
		return func(_ context.Context, at time.Duration) error {
			if at < d {
				return fmt.Errorf("not at %v", at)
			}
			return nil
		}
	}
	ill := func(from, to time.Duration) func(context.Context, time.Duration) error {
		return func(_ context.Context, at time.Duration) error {
			if at >= from && at < to {
				return errors.New("ill")
			}
			return nil
		}
	}
	for _, tc := range []struct {
		name  string
		check health.Check
		run   func(context.Context, time.Duration) error
		dies  time.Duration
		took  time.Duration
		err   string
	}{
		{"at once", health.Check{}, after(0), 0, 0, ""},
		{"after a while", health.Check{}, after(3 * s), 0, 3 * s, ""},
		{"for a while", health.Check{Stable: 5 * s}, after(3 * s), 0, 8 * s, ""},
		{"not in time", health.Check{Within: 10 * s}, after(time.Hour), 0, 10 * s, "not healthy after 10s: not at 10s"},
		{"ill in between", health.Check{Stable: 5 * s}, ill(3*s, 6*s), 0, 11 * s, ""},
		{"ill too late", health.Check{Within: 4 * s, Stable: 20 * s}, ill(6*s, time.Hour), 0, 6 * s, "ill"},
		{"ends", health.Check{Stable: 10 * s}, after(0), 4500 * time.Millisecond, 4500 * time.Millisecond, "ended with 3"},
		{"hangs", health.Check{Within: 8 * s, Timeout: 2 * s}, func(ctx context.Context, _ time.Duration) error { <-ctx.Done(); return ctx.Err() }, 0, 8 * s, "no answer within 2s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc.check.Exec = "true"
				c := &script{time.Now(), tc.run, make(chan error, 1)}
				if tc.dies > 0 {
					time.AfterFunc(tc.dies, func() { c.ended <- errors.New("its first process ended with 3") })
				}
				asked := 0
				err := tc.check.Wait(t.Context(), c, func() { asked++ })
				if took := time.Since(c.began); took != tc.took || asked == 0 {
					t.Errorf("it took %v and %d checks, want %v", took, asked, tc.took)
				}
				if (err == nil) != (tc.err == "") || err != nil && (!strings.Contains(err.Error(), tc.err) || !errdefs.IsFailedPrecondition(err)) {
					t.Errorf("got %v, want %q", err, tc.err)
				}
			})
		})
	}
}

// here is a container with the network of this process.
type here struct{ script }

func (*here) Dial(ctx context.Context, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

func TestProbes(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good":
		case "/moved":
			http.Redirect(w, r, "/bad", http.StatusFound)
		case "/rude":
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprint(conn, "HTTP/1.1 503 \x1b[2Jall is well\r\n\r\n")
			conn.Close()
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer srv.Close()
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		check health.Check
		err   string
	}{
		{health.Check{TCP: port}, ""},
		{health.Check{TCP: "127.0.0.1:" + port}, ""},
		{health.Check{TCP: "127.0.0.1:1"}, "refused"},
		{health.Check{HTTP: ":" + port + "/good"}, ""},
		{health.Check{HTTP: srv.URL + "/moved"}, ""},
		{health.Check{HTTP: ":" + port + "/bad"}, "503"},
		{health.Check{HTTP: ":" + port + "/rude"}, "/rude: 503 Service Unavailable: "}, // no word of the container's own
	} {
		tc.check.Interval, tc.check.Within = 10*time.Millisecond, time.Nanosecond
		if err := errors.Join(tc.check.Validate(), tc.check.Wait(t.Context(), &here{}, nil)); (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%+v: got %v, want %q", tc.check, err, tc.err)
		}
	}
}

func TestValidate(t *testing.T) {
	for want, c := range map[string]health.Check{
		"exclude each other": {Exec: "true", TCP: "80"},
		"below zero":         {Stable: -1},
		"want 10ms to 30s":   {Interval: time.Minute},
		"too long":           {Within: 48 * time.Hour},
		`"web:80"`:           {TCP: "web:80"},
		`"0"`:                {TCP: "0"},
		`"https://`:          {HTTP: "https://127.0.0.1/"},
		`"http://web`:        {HTTP: "http://web/"},
	} {
		if err := c.Validate(); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", c, err, want)
		}
	}
	if err := (health.Check{HTTP: ":8080"}).Validate(); err != nil {
		t.Error(err)
	}
}
