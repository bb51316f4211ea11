package registry

import (
	"context"
	"net/http"
	"time"
)

// WithoutWaiting records what would have been waited and does not.
func (o Options) WithoutWaiting(waited func(time.Duration)) Options {
	o.sleep = func(ctx context.Context, d time.Duration) error {
		waited(d)
		return ctx.Err()
	}
	return o
}

// WithIdle sets how long a body may stand still.
func (o Options) WithIdle(d time.Duration) Options {
	o.idle = d
	return o
}

// Wire is rt with bodies that may stand still for as long as idle.
func Wire(rt http.RoundTripper, idle time.Duration) http.RoundTripper {
	return &wire{rt, idle, Options{}.quiet()}
}

// HeaderTimeout is how long an answer may take.
const HeaderTimeout = headerTimeout

var (
	Public     = public
	RetryAfter = parseRetryAfter
)
