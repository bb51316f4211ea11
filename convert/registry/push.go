package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
)

// Push streams a blob in one PUT of a new upload session. It asks first whether
// the registry has it, before every attempt: the answer to a PUT that worked may
// have been lost.
func (r *Repository) Push(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	if err := checkDigest(desc.Digest); err != nil {
		return err
	}
	for n := 0; ; n++ {
		err := r.push(once(ctx), desc, open)
		if err == nil {
			return nil
		}
		if err := r.rest(ctx, n, err); err != nil {
			return fmt.Errorf("push %s: %w", r.at(desc.Digest), err)
		}
	}
}

func (r *Repository) push(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	if has, err := r.Has(ctx, desc); err != nil || has {
		return err
	}
	resp, err := r.do(ctx, request{method: http.MethodPost, url: r.url("blobs/uploads", "")}, http.StatusAccepted)
	if err != nil {
		return err
	}
	resp.Body.Close()
	loc, err := r.location(resp)
	if err != nil {
		return err
	}
	q := loc.Query()
	q.Set("digest", desc.Digest.String())
	loc.RawQuery = q.Encode()

	src := &local{open: open, size: desc.Size}
	resp, err = r.do(ctx, request{
		method: http.MethodPut, url: loc, size: desc.Size, body: src.reader,
		header: http.Header{"Content-Type": {"application/octet-stream"}},
	}, http.StatusCreated)
	if err != nil {
		return uploadFailure(err, src)
	}
	return resp.Body.Close()
}

func uploadFailure(err error, src *local) error {
	e, _ := errors.AsType[*Error](err)
	switch own := src.failure(); {
	case e != nil && e.Status == http.StatusNotFound:
		return &Error{Status: e.Status, text: "the registry lost the upload session", kinds: []error{errdefs.ErrUnavailable}}
	case (e == nil || e.Status == 0) && own != nil:
		return fmt.Errorf("read: %w", own)
	}
	return err
}

// errUnread is what net/http is told, so that an Error of the content's own (it
// may come from another registry) is never taken for this registry's answer.
var errUnread = errors.New("the content could not be read")

// local remembers an error of the content's own. To be of another size is one.
type local struct {
	open func() (io.ReadCloser, error)
	size int64
	mu   sync.Mutex // an answer may come while the body is still read
	err  error
}

func (l *local) reader() (io.ReadCloser, error) {
	rc, err := l.open()
	if err != nil {
		l.failed(err)
		return nil, errUnread
	}
	return &localReader{rc, l, 0}, nil
}

// failed keeps err, unless it only says that net/http closed the content.
func (l *local) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !errors.Is(err, os.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
		l.err = err
	}
}

func (l *local) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

type localReader struct {
	io.ReadCloser
	l *local
	n int64
}

func (r *localReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.n += int64(n)
	if err == io.EOF && r.n < r.l.size || r.n > r.l.size {
		err = invalid("the content is not of the %d bytes announced", r.l.size)
	}
	if err != nil && err != io.EOF {
		r.l.failed(err)
		err = errUnread
	}
	return n, err
}

// location is where an upload session goes on. Proxies that end TLS often name
// the registry itself with http; another host must not be a step down.
func (r *Repository) location(resp *http.Response) (*url.URL, error) {
	asked := resp.Request.URL
	u, err := asked.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" {
		return nil, &Error{Status: resp.StatusCode, text: "upload session without a usable Location", kinds: []error{errdefs.ErrUnknown}}
	}
	if u.Host == asked.Host {
		u.Scheme = asked.Scheme
	}
	u.User = nil
	if u.Scheme != "https" && u.Scheme != asked.Scheme {
		return nil, &Error{Status: resp.StatusCode, text: "upload session at " + u.Scheme + "://" + u.Host, kinds: []error{errdefs.ErrPermissionDenied}}
	}
	return u, nil
}

// Mount asks the registry to take a blob over from another of its repositories.
// It reports false, and leaves no upload session behind, where from is somewhere
// else, the registry does not mount, or the credentials do not reach so far.
func (r *Repository) Mount(ctx context.Context, desc ocispec.Descriptor, from convert.Source) (bool, error) {
	if err := checkDigest(desc.Digest); err != nil {
		return false, err
	}
	src, ok := from.(*Repository)
	if !ok || src.repo.RegistryStr() != r.repo.RegistryStr() || src.repo.RepositoryStr() == r.repo.RepositoryStr() {
		return false, nil
	}
	u := r.url("blobs/uploads", "")
	u.RawQuery = url.Values{"mount": {desc.Digest.String()}, "from": {src.repo.RepositoryStr()}}.Encode()
	resp, err := r.do(ctx, request{method: http.MethodPost, url: u, from: src.repo.RepositoryStr()}, http.StatusCreated, http.StatusAccepted)
	if refused(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("mount %s from %s: %w", r.at(desc.Digest), src.repo, err)
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusCreated {
		return true, nil
	}
	r.cancel(ctx, resp, src.repo.RepositoryStr())
	return false, nil
}

// refused tells a mount that is not possible from a registry that does not work.
func refused(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status >= 400 && e.Status < 500 && !worthRetry(e)
}

// cancel ends an upload session. The registry ends it some day anyway, so its
// answer does not matter. It goes out with the mount's token: a registry that
// wants the delete action for it must not spoil the one for pushing.
func (r *Repository) cancel(ctx context.Context, started *http.Response, from string) {
	loc, err := r.location(started)
	if err != nil {
		return
	}
	if resp, err := r.do(once(ctx), request{method: http.MethodDelete, url: loc, from: from}, http.StatusNoContent); err == nil {
		resp.Body.Close()
	}
}

// PutManifest stores raw, byte for byte, under its digest.
func (r *Repository) PutManifest(ctx context.Context, desc ocispec.Descriptor, raw []byte) error {
	if err := checkManifest(desc, raw); err != nil {
		return err
	}
	if err := r.put(ctx, desc.Digest.String(), desc, raw, nil); err != nil {
		return fmt.Errorf("put manifest %s: %w", r.at(desc.Digest), err)
	}
	return nil
}

func checkManifest(desc ocispec.Descriptor, raw []byte) error {
	if err := checkDigest(desc.Digest); err != nil {
		return err
	}
	if got := desc.Digest.Algorithm().FromBytes(raw); got != desc.Digest || int64(len(raw)) != desc.Size {
		return invalid("manifest %s of %d bytes: the bytes are %s, %d", desc.Digest, desc.Size, got, len(raw))
	}
	return nil
}

func (r *Repository) put(ctx context.Context, id string, desc ocispec.Descriptor, raw []byte, condition http.Header) error {
	h := http.Header{"Content-Type": {desc.MediaType}}
	for k, v := range condition {
		h[k] = v
	}
	resp, err := r.do(ctx, request{
		method: http.MethodPut, url: r.url("manifests", id), header: h, size: desc.Size,
		body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
	}, http.StatusCreated, http.StatusOK, http.StatusAccepted)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if d, err := digest.Parse(resp.Header.Get("Docker-Content-Digest")); err == nil && d != desc.Digest && d.Algorithm() == desc.Digest.Algorithm() {
		return &Error{Status: resp.StatusCode, text: "the registry stored other bytes, " + d.String(), kinds: []error{errdefs.ErrDataLoss}}
	}
	return nil
}
