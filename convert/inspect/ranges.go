package inspect

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/lithify/lithify/convert"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A window is what one request asks for: a little at first, and twice as much each time that
// a reader goes on where it was.
const (
	minWindow = 64 << 10
	maxWindow = 4 << 20
	// maxWindows is how many are kept of one blob.
	maxWindows = 16
)

// rangeFetcher is a source that can send a part of a blob.
type rangeFetcher interface {
	// FetchRange opens n bytes of the blob from off on.
	FetchRange(ctx context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error)
}

// ranges reads a blob at random by range requests. The bytes of a part cannot be compared with
// the blob's digest: who needs proof reads all of it.
type ranges struct {
	ctx  context.Context // of the call that all of it is for
	src  rangeFetcher
	desc ocispec.Descriptor

	mu     sync.Mutex
	pinned []window
	recent []window // the one used last at the end
}

type window struct {
	off int64
	p   []byte
}

func (w window) end() int64 { return w.off + int64(len(w.p)) }

func newRanges(ctx context.Context, src convert.Source, desc ocispec.Descriptor) (*ranges, error) {
	f, ok := src.(rangeFetcher)
	if !ok {
		return nil, &convert.RefusedError{What: src.Name(), Why: "cannot be read at random; copy the image into a registry or an OCI layout"}
	}
	return &ranges{ctx: ctx, src: f, desc: desc}, nil
}

// ReadAt reads what is kept, and fetches what is not.
func (r *ranges) ReadAt(p []byte, off int64) (n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n < len(p) {
		if off < 0 || off >= r.desc.Size {
			return n, io.EOF
		}
		w, err := r.window(off)
		if err != nil {
			return n, err
		}
		k := copy(p[n:], w.p[off-w.off:])
		n += k
		off += int64(k)
	}
	return n, nil
}

// window gives one that holds the byte at off.
func (r *ranges) window(off int64) (window, error) {
	for _, w := range r.pinned {
		if w.off <= off && off < w.end() {
			return w, nil
		}
	}
	size := int64(minWindow)
	for i, w := range r.recent {
		if w.off <= off && off < w.end() {
			r.recent = append(slices.Delete(r.recent, i, i+1), w)
			return w, nil
		}
		if w.end() == off {
			size = min(2*int64(len(w.p)), maxWindow)
		}
	}
	w, err := r.fetch(off, size)
	if err != nil {
		return w, err
	}
	if len(r.recent) == maxWindows {
		r.recent = slices.Delete(r.recent, 0, 1)
	}
	r.recent = append(r.recent, w)
	return w, nil
}

// pin fetches a stretch by one request and keeps it.
func (r *ranges) pin(off, n int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	w, err := r.fetch(off, n)
	if err == nil {
		r.pinned = append(r.pinned, w)
	}
	return err
}

func (r *ranges) fetch(off, n int64) (w window, err error) {
	n = min(n, r.desc.Size-off)
	rc, err := r.src.FetchRange(r.ctx, r.desc, off, n)
	if err != nil {
		return w, err
	}
	w = window{off, make([]byte, n)}
	_, err = io.ReadFull(rc, w.p)
	if err = cmp.Or(err, rc.Close()); err != nil {
		return w, fmt.Errorf("read bytes %d-%d of %s: %w", off, off+n-1, r.desc.Digest, err)
	}
	return w, nil
}
