package registry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// FetchRange opens n bytes of a blob from off. A registry that ignores ranges is
// read up to off first.
func (r *Repository) FetchRange(ctx context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	if err := checkDigest(desc.Digest); err != nil {
		return nil, err
	}
	if err := checkRange(desc, off, n); err != nil {
		return nil, fmt.Errorf("fetch from %s: %w", r.repo, err)
	}
	if n == 0 {
		return http.NoBody, nil
	}
	rc, err := r.blob(ctx, desc, off, off+n)
	if err != nil {
		return nil, fmt.Errorf("fetch bytes %d-%d of %s: %w", off, off+n-1, r.at(desc.Digest), err)
	}
	return rc, nil
}

// blob streams the bytes from off to end, or to the blob's end if that is less.
func (r *Repository) blob(ctx context.Context, desc ocispec.Descriptor, off, end int64) (io.ReadCloser, error) {
	open := func(at int64) (io.ReadCloser, error) {
		if at >= desc.Size && at > off {
			return http.NoBody, nil // all of it came before the connection broke
		}
		return r.openAt(ctx, desc, at, end)
	}
	rc, err := open(off)
	if err != nil {
		return nil, err
	}
	wait := func(n int) error {
		d, _ := pause(n, 0, false)
		return r.opts.sleep(ctx, d)
	}
	s := &stream{from: open, wait: wait, rc: rc, off: off}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(cleaned{s, r.client, r.at(desc.Digest)}, end-off), s}, nil
}

// cleaned makes a reader's errors this package's.
type cleaned struct {
	io.Reader
	c    *client
	what string
}

func (e cleaned) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("read %s: %w", e.what, e.c.failure(err))
	}
	return n, err
}

func (r *Repository) openAt(ctx context.Context, desc ocispec.Descriptor, off, end int64) (io.ReadCloser, error) {
	h := http.Header{}
	if off > 0 || end <= desc.Size {
		h.Set("Range", fmt.Sprintf("bytes=%d-%d", off, min(end, desc.Size)-1))
	}
	resp, err := r.do(ctx, request{method: http.MethodGet, url: r.url("blobs", desc.Digest.String()), header: h},
		http.StatusOK, http.StatusPartialContent)
	if err != nil {
		return nil, err
	}
	why := fmt.Sprintf("skipping to byte %d of an answer of %s", off, resp.Request.URL.Host)
	skipped := declared{resp.Body, func() func() { return r.opts.Quiet(ctx, r.opts.idle, why) }}
	if err := startAt(resp, skipped, off); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp.Body, nil
}

// declared is a body whose bytes nobody hears of: each read is a silence of its own,
// and its end is proof of life.
type declared struct {
	io.Reader
	quiet func() (end func())
}

func (d declared) Read(p []byte) (int, error) {
	defer d.quiet()()
	return d.Reader.Read(p)
}

// startAt brings the answer's body to offset off, wherever it begins.
func startAt(resp *http.Response, body io.Reader, off int64) error {
	if resp.StatusCode == http.StatusOK {
		if _, err := io.CopyN(io.Discard, body, off); err != nil {
			return fmt.Errorf("skip to byte %d: %w", off, err)
		}
		return nil
	}
	if got := resp.Header.Get("Content-Range"); !strings.HasPrefix(got, fmt.Sprintf("bytes %d-", off)) {
		return &Error{
			Status: resp.StatusCode,
			text:   fmt.Sprintf("asked for bytes from %d, got Content-Range %.40q", off, got),
			kinds:  []error{errdefs.ErrDataLoss},
		}
	}
	return nil
}
