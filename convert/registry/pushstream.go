package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// PushStream uploads a blob while it is made: in one PATCH of unknown length, as docker
// push does, and then a PUT with the digest that write gives. write is called at most
// once, on another goroutine, and has returned when PushStream does.
//
// The bytes are gone once they are sent, so there is one attempt. An error of write's own
// is returned as it is. After any error the upload session is ended and there is no blob.
func (r *Repository) PushStream(ctx context.Context, write func(io.Writer) (ocispec.Descriptor, error)) error {
	started, err := r.do(ctx, request{method: http.MethodPost, url: r.url("blobs/uploads", "")}, http.StatusAccepted)
	if err != nil {
		return r.streamError(err)
	}
	started.Body.Close()
	m := &made{write: write, done: make(chan struct{})}
	if err := r.sendMade(ctx, started, m); err != nil {
		r.cancel(context.WithoutCancel(ctx), started, r.repo.RepositoryStr())
		if own := m.failure(); own != nil {
			return own
		}
		return r.streamError(err)
	}
	return nil
}

func (r *Repository) streamError(err error) error {
	return fmt.Errorf("push a blob to %s while it is made: %w", r.repo, err)
}

// sendMade sends all that is made to an upload session and gives it its digest.
func (r *Repository) sendMade(ctx context.Context, started *http.Response, m *made) error {
	loc, err := r.location(started)
	if err != nil {
		return err
	}
	resp, err := r.do(once(ctx), request{
		method: http.MethodPatch, url: loc, size: unknownSize, body: m.open,
		header: http.Header{"Content-Type": {"application/octet-stream"}},
	}, http.StatusAccepted, http.StatusNoContent, http.StatusCreated)
	m.close()
	if err != nil {
		return err
	}
	resp.Body.Close()
	if m.err != nil {
		return m.err
	}
	if loc, err = r.location(resp); err != nil {
		return err
	}
	q := loc.Query()
	q.Set("digest", m.desc.Digest.String())
	loc.RawQuery = q.Encode()
	resp, err = r.do(ctx, request{method: http.MethodPut, url: loc}, http.StatusCreated)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// errNotTaken is what a writer is told when the registry takes no more.
var errNotTaken = errors.New("the registry takes no more of it")

// made is a body that is written while it is sent.
type made struct {
	write func(io.Writer) (ocispec.Descriptor, error)

	mu     sync.Mutex
	pipe   *io.PipeReader // nil until it is opened
	closed bool
	done   chan struct{}      // closed when write has returned
	desc   ocispec.Descriptor // valid then, as what follows
	err    error
}

// open starts write. It opens once: where a token has expired, ggcr would send the body
// again, of which the beginning is gone.
func (m *made) open() (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pipe != nil || m.closed {
		return nil, errUnread
	}
	from, to := io.Pipe()
	m.pipe = from
	go func() {
		defer close(m.done)
		m.desc, m.err = m.write(to)
		if m.err != nil {
			to.CloseWithError(errUnread)
			return
		}
		to.Close()
	}()
	return from, nil
}

// close waits for write, which nobody reads from any more.
func (m *made) close() {
	m.mu.Lock()
	m.closed = true
	pipe := m.pipe
	m.mu.Unlock()
	if pipe != nil {
		pipe.CloseWithError(errNotTaken)
		<-m.done
	}
}

// failure is an error of write's own, after close. net/http, too, closes the pipe of a
// request that is over.
func (m *made) failure() error {
	if m.pipe == nil || errors.Is(m.err, errNotTaken) || errors.Is(m.err, io.ErrClosedPipe) {
		return nil
	}
	return m.err
}
