package registry

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	attempts  = 5
	firstWait = 250 * time.Millisecond
	// A registry that asks for more patience than this is not waited for here:
	// its wish is handed up in Error.RetryAfter, so that a queue can wait instead
	// of a worker.
	maxWait = 30 * time.Second
	// drainLimit is what is read of a refused answer to keep its connection.
	drainLimit = 64 << 10
)

// pause tells how long to wait after attempt n (from 0), and whether at all.
func pause(n int, asked time.Duration, said bool) (time.Duration, bool) {
	if n >= attempts-1 || asked > maxWait {
		return 0, false
	}
	if said {
		return asked, true
	}
	d := firstWait << n
	return d/2 + rand.N(d/2+1), true
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func transientStatus(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// retryAfter reads the header's two forms, seconds and a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	d, _ := parseRetryAfter(h.Get("Retry-After"), now)
	return d
}

func parseRetryAfter(v string, now time.Time) (time.Duration, bool) {
	if s, err := strconv.ParseInt(v, 10, 32); err == nil && s >= 0 {
		return time.Duration(s) * time.Second, true
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, t.Sub(now)), true
	}
	return 0, false
}

type onceKey struct{}

// once marks a request that must not be sent again underneath its caller: the
// caller has to begin further back, at a new upload session.
func once(ctx context.Context) context.Context { return context.WithValue(ctx, onceKey{}, true) }

func isOnce(ctx context.Context) bool { return ctx.Value(onceKey{}) != nil }

type wishKey struct{}

// withWish makes note remember under the returned context.
func withWish(ctx context.Context) (context.Context, *atomic.Int64) {
	var wish atomic.Int64
	return context.WithValue(ctx, wishKey{}, &wish), &wish
}

// note remembers the Retry-After of an answer that is not waited for. ggcr drops
// it on the way up where the answer was to a ping or for a token.
func note(ctx context.Context, resp *http.Response) {
	wish, ok := ctx.Value(wishKey{}).(*atomic.Int64)
	if ok && resp != nil && transientStatus(resp.StatusCode) {
		wish.Store(int64(retryAfter(resp.Header, time.Now())))
	}
}

// retrier sends a request again after a transient answer or a broken connection.
// It lies under ggcr's authentication, so that token requests profit too and a
// body is fresh when a request is repeated after a 401.
type retrier struct {
	inner http.RoundTripper
	sleep func(context.Context, time.Duration) error
}

func (t *retrier) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if req.GetBody != nil && req.Body != nil {
		defer req.Body.Close()
	}
	for n := 0; ; n++ {
		attempt, err := fresh(req)
		if err != nil {
			return nil, err
		}
		resp, err := t.inner.RoundTrip(attempt)
		wait, again := t.again(req, resp, err, n)
		if !again {
			note(ctx, resp)
			return resp, err
		}
		if resp != nil {
			io.CopyN(io.Discard, resp.Body, drainLimit)
			resp.Body.Close()
		}
		if err := t.sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

func (t *retrier) again(req *http.Request, resp *http.Response, err error, n int) (time.Duration, bool) {
	if isOnce(req.Context()) || req.Body != nil && req.GetBody == nil {
		return 0, false
	}
	if err != nil {
		if _, ours := errors.AsType[*Error](err); ours || req.Context().Err() != nil || !transient(err) {
			return 0, false
		}
		return pause(n, 0, false)
	}
	if !transientStatus(resp.StatusCode) {
		return 0, false
	}
	asked, said := parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
	return pause(n, asked, said)
}

// fresh is req with a body that nobody has read from.
func fresh(req *http.Request) (*http.Request, error) {
	if req.GetBody == nil || req.Body == nil {
		return req, nil
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	c := req.Clone(req.Context())
	c.Body = body
	return c, nil
}
