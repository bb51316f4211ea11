package registry

import (
	"context"
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

// HeaderTimeout is how long an answer may take.
const HeaderTimeout = headerTimeout

var (
	Public     = public
	Redact     = redact
	RetryAfter = parseRetryAfter
)
