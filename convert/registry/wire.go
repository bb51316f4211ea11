package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// wire is the layer just above the network. It gives up on a body, sent or
// received, that stands still, declares the silence before and between them, and
// tells an exchange that did not come to its end from one that never will.
type wire struct {
	inner http.RoundTripper
	idle  time.Duration
	quiet func(context.Context, time.Duration, string) func()
}

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	x := &exchange{outer: req.Context(), ctx: ctx, cancel: cancel, idle: w.idle}
	x.quiet = func(bound time.Duration, why string) func() {
		return w.quiet(req.Context(), bound, why+" "+req.URL.Host)
	}
	attempt := x.attempt(req)
	if attempt.Body == nil || attempt.Body == http.NoBody {
		x.hush(connectTimeout+headerTimeout, answering)
	} else {
		x.hush(connectTimeout, "connecting to")
	}
	resp, err := w.inner.RoundTrip(attempt)
	x.answered()
	if err != nil {
		err = x.explain(err)
		cancel(nil)
		return nil, err
	}
	resp.Body = &received{resp.Body, x, x.timer()}
	return resp, nil
}

// exchange is one request and its answer, to the end of the answer's body. Its
// context is done when a body has stood still for too long.
type exchange struct {
	outer  context.Context // the request's own
	ctx    context.Context
	cancel context.CancelCauseFunc
	idle   time.Duration
	quiet  func(bound time.Duration, why string) (end func())

	mu    sync.Mutex
	end   func()      // of the silence declared now
	bound *time.Timer // of that silence
	over  bool        // there is an answer, or there will be none
}

const answering = "waiting for an answer of"

// hush declares a silence, which takes the place of the last, and ends the exchange
// if it takes longer. The transport's own bounds are shorter where it has one: it has
// none for the last 4 KiB of HTTP/1, which it writes after it closed the body.
func (x *exchange) hush(bound time.Duration, why string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.endSilence()
	if !x.over {
		x.end = x.quiet(bound, why)
		x.bound = time.AfterFunc(bound, func() { x.cancel(errIdle) })
	}
}

// sending ends the silence: who reads the content tells how far it is.
func (x *exchange) sending() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.endSilence()
}

// answered ends the silence for good, also where the body is still being sent.
func (x *exchange) answered() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.over = true
	x.endSilence()
}

func (x *exchange) endSilence() {
	if x.end != nil {
		x.bound.Stop()
		x.end()
		x.end = nil
	}
}

// attempt is req under the exchange's context, with its body watched.
func (x *exchange) attempt(req *http.Request) *http.Request {
	req = req.WithContext(x.ctx)
	if req.Body == nil || req.Body == http.NoBody {
		return req
	}
	req.Body = x.sent(req.Body)
	if open := req.GetBody; open != nil {
		req.GetBody = func() (io.ReadCloser, error) {
			rc, err := open()
			if err != nil {
				return nil, err
			}
			return x.sent(rc), nil
		}
	}
	return req
}

// timer ends the exchange when it was not stopped in time. It does not run yet.
func (x *exchange) timer() *time.Timer {
	t := time.AfterFunc(x.idle, func() { x.cancel(errIdle) })
	t.Stop()
	return t
}

func (x *exchange) explain(err error) error {
	switch {
	case x.outer.Err() != nil:
		return x.outer.Err()
	case context.Cause(x.ctx) == errIdle:
		return &brokenError{errIdle}
	case hopeless(err):
		return err
	}
	return &brokenError{err}
}

// maxSent is what the other side has to take within the idle time. HTTP/2 would read
// 512 KiB at once, which is more than a slow uplink takes in time.
const maxSent = 64 << 10

// sent is a request's body. Its timer runs from each read to the next or to Close:
// then the other side takes what was read, or does not. That holds after the end
// too, for HTTP/2 reads it before it writes the last bytes.
type sent struct {
	io.ReadCloser
	x     *exchange
	timer *time.Timer
	mu    sync.Mutex // net/http may close a body while it reads it
	shut  bool
}

func (x *exchange) sent(rc io.ReadCloser) io.ReadCloser {
	return &sent{ReadCloser: rc, x: x, timer: x.timer()}
}

func (s *sent) Read(p []byte) (int, error) {
	s.timer.Stop()
	s.x.sending()
	n, err := s.ReadCloser.Read(p[:min(len(p), maxSent)])
	s.handed(err)
	return n, err
}

// handed starts the wait for the other side, unless net/http gave up on the body
// while it was read.
func (s *sent) handed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut || err != nil && err != io.EOF {
		return
	}
	s.timer.Reset(s.x.idle)
	if err == io.EOF {
		s.x.hush(s.x.idle+headerTimeout, answering)
	}
}

func (s *sent) Close() error {
	s.mu.Lock()
	s.shut = true
	s.timer.Stop()
	s.mu.Unlock()
	return s.ReadCloser.Close()
}

// received is an answer's body. Its timer runs while a read waits.
type received struct {
	io.ReadCloser
	x     *exchange
	timer *time.Timer
}

func (r *received) Read(p []byte) (int, error) {
	r.timer.Reset(r.x.idle)
	n, err := r.ReadCloser.Read(p)
	r.timer.Stop()
	if err != nil && err != io.EOF {
		err = r.x.explain(err)
	}
	return n, err
}

func (r *received) Close() error {
	r.timer.Stop()
	err := r.ReadCloser.Close()
	r.x.cancel(nil)
	return err
}

// brokenError is an exchange that began and may well succeed the next time.
//
// There is no end to what one can die of, and HTTP/2's stream errors, GOAWAY and
// lost connections have no exported type: so everything counts that net/http says
// but what the context explains and what is known to come again.
type brokenError struct{ error }

func (e *brokenError) Unwrap() error { return e.error }

func hopeless(err error) bool {
	_, ours := errors.AsType[*Error](err)
	_, cert := errors.AsType[*tls.CertificateVerificationError](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	op, ok := errors.AsType[*net.OpError](err)
	noDial := ok && dialling(op) && (!unreached(err) || unresolved(err))
	return ours || cert || noTLS || alert || noDial || errors.Is(err, errUnread) || errors.Is(err, http.ErrSchemeMismatch)
}
