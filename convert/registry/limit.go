package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Limiter decides how many requests a host gets, for all who share it. It is called
// from many goroutines, once or more for each request that leaves the process: for
// those to token servers and to where a registry redirects, too.
type Limiter interface {
	// Turn is asked before a request is sent to host (with its port, as in a URL). At 0
	// it is sent, else Turn is asked again once as much time has passed. It may ask
	// others and answers within seconds.
	Turn(ctx context.Context, host string) time.Duration
	// Refused says that host did not take a request because it was one too many. asked
	// is for how long it wants to be left alone, 0 if it did not say. It does not block.
	Refused(host string, asked time.Duration)
}

// maxTurn is the longest wait for a request's turn. What takes longer is handed up
// in Error.RetryAfter, so that a queue can wait instead of a worker.
const maxTurn = 2 * time.Minute

// limited lets requests out in their turn, and hears what comes back. It lies under
// the retrier: each attempt is one more request to the host.
type limited struct {
	inner   http.RoundTripper
	limiter Limiter
	sleep   func(context.Context, time.Duration) error
	metrics limitMetrics
}

func (l *limited) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := l.turn(req.Context(), req.URL.Host); err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	resp, err := l.inner.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if asked, refused := tooMany(resp, time.Now()); refused {
		l.metrics.refused.Add(req.Context(), 1, metric.WithAttributes(attribute.Int("http.response.status_code", resp.StatusCode)))
		l.limiter.Refused(req.URL.Host, asked)
	}
	return resp, nil
}

func (l *limited) turn(ctx context.Context, host string) error {
	var waited time.Duration
	for {
		wait := l.limiter.Turn(ctx, host)
		if wait <= 0 || ctx.Err() != nil {
			if waited > 0 {
				l.metrics.waits.Record(ctx, waited.Seconds())
			}
			return ctx.Err()
		}
		deadline, ends := ctx.Deadline()
		if waited+wait > maxTurn || ends && time.Until(deadline) < wait {
			return &Error{
				text:       fmt.Sprintf("%s gets no more requests for now, the next in %v", host, wait.Round(time.Second)),
				RetryAfter: wait,
				kinds:      []error{errdefs.ErrUnavailable},
				settled:    true,
			}
		}
		if err := l.sleep(ctx, wait); err != nil {
			return err
		}
		waited += wait
	}
}

// tooMany tells a refusal for the number of requests from a registry that is down,
// and hears one that announces the next: "RateLimit-Remaining: 0" with the seconds
// until there are more. Docker Hub's remaining pulls come without them, and do not
// count blobs; there the refusal itself is waited for.
func tooMany(resp *http.Response, now time.Time) (asked time.Duration, refused bool) {
	asked, said := parseRetryAfter(resp.Header.Get("Retry-After"), now)
	reset, err := strconv.ParseInt(resp.Header.Get("RateLimit-Reset"), 10, 32)
	if err != nil || reset < 0 {
		reset = 0
	}
	switch {
	case resp.StatusCode == http.StatusTooManyRequests && !said:
		return time.Duration(reset) * time.Second, true
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusServiceUnavailable && said:
		return asked, true
	case resp.Header.Get("RateLimit-Remaining") == "0" && reset > 0:
		return time.Duration(reset) * time.Second, true
	}
	return 0, false
}

// limitMetrics have no host: of those there is no end.
type limitMetrics struct {
	refused metric.Int64Counter
	waits   metric.Float64Histogram
}

func newLimitMetrics() (m limitMetrics) {
	meter := otel.Meter(scope)
	var errs [2]error
	m.refused, errs[0] = meter.Int64Counter("lithify.registry.refused", metric.WithUnit("{request}"),
		metric.WithDescription("Answers by which a registry asked for fewer requests, by status"))
	m.waits, errs[1] = meter.Float64Histogram("lithify.registry.turn.wait", metric.WithUnit("s"),
		metric.WithDescription("How long requests waited for their turn, of those that did"),
		metric.WithExplicitBucketBoundaries(0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120)) // up to maxTurn
	if err := errors.Join(errs[:]...); err != nil {
		otel.Handle(err) // with instruments that count nothing
	}
	return m
}
