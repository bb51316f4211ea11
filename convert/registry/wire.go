package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
)

// wire is the layer just above the network. It alone sees whether an error is
// one of an exchange that did not come to its end, and says so.
type wire struct {
	inner http.RoundTripper
}

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := w.inner.RoundTrip(req)
	if err != nil {
		return nil, broken(req.Context(), err)
	}
	resp.Body = &wireBody{resp.Body, req.Context()}
	return resp, nil
}

type wireBody struct {
	io.ReadCloser
	ctx context.Context // the request's
}

func (b *wireBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = broken(b.ctx, err)
	}
	return n, err
}

// brokenError is an exchange that began and may well succeed the next time.
type brokenError struct{ error }

func (e *brokenError) Unwrap() error { return e.error }

// broken marks what net/http says of an exchange. There is no end to what one can
// die of, and HTTP/2's stream errors, GOAWAY and lost connections have no exported
// type: so everything counts but what ctx explains and what is known to come again.
func broken(ctx context.Context, err error) error {
	if ctx.Err() != nil || hopeless(err) {
		return err
	}
	return &brokenError{err}
}

func hopeless(err error) bool {
	_, ours := errors.AsType[*Error](err)
	_, cert := errors.AsType[*tls.CertificateVerificationError](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	op, ok := errors.AsType[*net.OpError](err)
	noDial := ok && dialling(op) && (!unreached(err) || unresolved(err))
	return ours || cert || noTLS || alert || noDial || errors.Is(err, errUnread) || errors.Is(err, http.ErrSchemeMismatch)
}
