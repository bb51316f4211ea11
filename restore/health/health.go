// Package health asks a container whether it does its work: by a script in it, a connection
// or an HTTP request from its own network.
//
//	err := health.Check{HTTP: ":8080/healthz", Stable: 10 * time.Second}.Wait(ctx, container)
//
// It knows no containerd: whoever has the container is a [Container].
package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// Check says when a container is healthy. Without Exec, TCP and HTTP it has to run, and no
// more; of these one may be given.
type Check struct {
	Exec string // script for its /bin/sh that has to end well
	TCP  string // [HOST:]PORT that has to take a connection
	HTTP string // [http://HOST]:PORT[/PATH] that has to answer with a status below 400; redirects are not followed

	Interval time.Duration // between two checks; default DefaultInterval
	Timeout  time.Duration // of one; default DefaultTimeout
	Within   time.Duration // until it is healthy; default DefaultWithin
	Stable   time.Duration // how long it has to stay so; default one check is enough
	// Container of a set whose check it is; the others have to run. Default all.
	Container string
}

const (
	DefaultInterval = time.Second
	DefaultTimeout  = 5 * time.Second
	DefaultWithin   = time.Minute
	// maxStep bounds Interval and Timeout: whoever waits wants to hear that it goes on.
	maxStep = 30 * time.Second
	// maxWait bounds the whole.
	maxWait = 24 * time.Hour
)

// WithDefaults is the check with nothing left out.
func (c Check) WithDefaults() Check {
	c.Interval = cmp.Or(c.Interval, DefaultInterval)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.Within = cmp.Or(c.Within, DefaultWithin)
	return c
}

// Validate refuses what cannot be checked: an errdefs.ErrInvalidArgument.
func (c Check) Validate() error {
	bad := func(why string, args ...any) error {
		return fmt.Errorf("check: "+why+": %w", append(args, errdefs.ErrInvalidArgument)...)
	}
	given := 0
	for _, s := range []string{c.Exec, c.TCP, c.HTTP} {
		if s != "" {
			given++
		}
	}
	c = c.WithDefaults()
	switch {
	case given > 1:
		return bad("a script, a connection and a request exclude each other")
	case min(c.Interval, c.Timeout, c.Within, c.Stable) < 0:
		return bad("a time is below zero")
	case c.Interval < 10*time.Millisecond || max(c.Interval, c.Timeout) > maxStep:
		return bad("every %v, for %v each: want 10ms to %v", c.Interval, c.Timeout, maxStep)
	case max(c.Within, c.Stable) > maxWait:
		return bad("%v and %v are too long (the limit is %v)", c.Within, c.Stable, maxWait)
	}
	if c.TCP != "" {
		if _, err := address(c.TCP); err != nil {
			return bad("%q: want PORT or IP:PORT", c.TCP)
		}
	}
	if c.HTTP != "" {
		if _, _, err := request(c.HTTP); err != nil {
			return bad("%q: want :PORT/PATH or http://IP:PORT/PATH", c.HTTP)
		}
	}
	return nil
}

// address is where to connect to. A name would be looked up on another machine than the
// container's.
func address(s string) (string, error) {
	if !strings.Contains(s, ":") {
		s = ":" + s
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", err
	}
	if host == "" || host == "localhost" {
		host = "127.0.0.1"
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return "", err
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("port %q", port)
	}
	return net.JoinHostPort(host, port), nil
}

// request is where to connect to and what to ask for.
func request(s string) (addr, asked string, err error) {
	if strings.HasPrefix(s, ":") {
		s = "http://127.0.0.1" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", "", err
	}
	if u.Scheme != "http" || u.User != nil {
		return "", "", errors.New("no http")
	}
	addr, err = address(net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "80")))
	return addr, u.String(), err
}

// Container is one that is checked.
type Container interface {
	// Run runs a script in it, to its end.
	Run(ctx context.Context, script string) error
	// Dial connects to an address of its network.
	Dial(ctx context.Context, address string) (net.Conn, error)
	// Ended says how it ended, once it did.
	Ended() <-chan error
}

// Wait returns when the container is healthy. One that is not in time, or that ends, is an
// errdefs.ErrFailedPrecondition with the last reason. asked hears of each check.
func (c Check) Wait(ctx context.Context, of Container, asked func()) error {
	c = c.WithDefaults()
	began, since := time.Now(), time.Time{}
	for {
		if asked != nil {
			asked()
		}
		err := c.once(ctx, of)
		now := time.Now()
		pause := c.Interval
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && now.Sub(began) >= c.Within:
			return fmt.Errorf("it is not healthy after %v: %w: %w", now.Sub(began).Round(time.Second), err, errdefs.ErrFailedPrecondition)
		case err != nil:
			since = time.Time{}
		case since.IsZero():
			since = now
		}
		if !since.IsZero() {
			if now.Sub(since) >= c.Stable {
				return nil
			}
			pause = min(pause, c.Stable-now.Sub(since))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-of.Ended():
			return fmt.Errorf("it was restored and then ended: %w: %w", err, errdefs.ErrFailedPrecondition)
		case <-time.After(pause):
		}
	}
}

// once is one check.
func (c Check) once(ctx context.Context, of Container) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("no answer within %v", c.Timeout))
	defer cancel()
	var err error
	switch {
	case c.Exec != "":
		err = of.Run(ctx, c.Exec)
	case c.TCP != "":
		err = connect(ctx, of, c.TCP)
	case c.HTTP != "":
		err = get(ctx, of, c.HTTP)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func connect(ctx context.Context, of Container, s string) error {
	addr, err := address(s)
	if err != nil {
		return err
	}
	conn, err := of.Dial(ctx, addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

func get(ctx context.Context, of Container, s string) error {
	addr, asked, err := request(s)
	if err != nil {
		return err
	}
	client := http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return of.Dial(ctx, addr) }},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, asked, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "lithify")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("GET %s: %d %s", asked, resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	return nil
}
