package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxManifest is what the distribution spec asks registries to take at least,
	// and more than any real manifest or index has.
	maxManifest = 4 << 20
	// idleTimeout ends a download that has brought no byte for so long.
	idleTimeout = time.Minute
)

var errIdle = errors.New("no data came for too long")

// Docker's media types, which image-spec does not name.
const (
	dockerManifest   = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList       = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerSchema1    = "application/vnd.docker.distribution.manifest.v1+json"
	dockerSchema1Jws = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	dockerConfig     = "application/vnd.docker.container.image.v1+json"
	dockerLayer      = "application/vnd.docker.image.rootfs.diff.tar"
	dockerLayerGzip  = dockerLayer + ".gzip"
	dockerLayerZstd  = dockerLayer + ".zstd"
)

// manifestTypes are accepted where a reference is resolved. Schema 1 is among
// them so that it can be refused by its name.
var manifestTypes = []string{
	ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest,
	dockerList, dockerManifest, dockerSchema1Jws, dockerSchema1,
}

func isManifest(mediaType string) bool {
	for _, t := range manifestTypes {
		if t == mediaType {
			return true
		}
	}
	return false
}

// checkDigest keeps what comes from a manifest from becoming a path or an URL.
func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return invalid("digest %q: %v", d, err)
	}
	return nil
}

func checkRange(desc ocispec.Descriptor, off, n int64) error {
	if off < 0 || n < 0 || off > desc.Size || n > desc.Size-off {
		return fmt.Errorf("bytes %d+%d of %s, which has %d: %w", off, n, desc.Digest, desc.Size, errdefs.ErrOutOfRange)
	}
	return nil
}

// bounded ends one byte after the announced size: enough for the caller to see
// that there is more.
func bounded(rc io.ReadCloser, desc ocispec.Descriptor) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(rc, desc.Size+1), rc}
}

// readManifest reads all of r if that is not more than a manifest may be.
func readManifest(r io.Reader) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err == nil && len(raw) > maxManifest {
		err = invalid("the manifest is larger than %d bytes", maxManifest)
	}
	return raw, err
}

// stream reads a blob and, when the connection breaks, goes on where it broke.
type stream struct {
	from  func(off int64) (io.ReadCloser, error) // opens at an offset
	wait  func(n int) error                      // before opening again, or why not
	rc    io.ReadCloser
	off   int64
	tries int
}

func (s *stream) Read(p []byte) (int, error) {
	for {
		n, err := s.rc.Read(p)
		s.off += int64(n)
		if n > 0 || err == nil || err == io.EOF {
			return n, s.later(err)
		}
		if rerr := s.reopen(err); rerr != nil {
			return 0, rerr
		}
	}
}

// later holds back an error that came with data; the next Read meets it again.
func (s *stream) later(err error) error {
	if err == io.EOF {
		return err
	}
	return nil
}

func (s *stream) reopen(cause error) error {
	if !transient(cause) || s.tries >= attempts-1 {
		return cause
	}
	if err := s.wait(s.tries); err != nil {
		return err
	}
	s.tries++
	rc, err := s.from(s.off)
	if err != nil {
		return err
	}
	s.rc.Close()
	s.rc = rc
	return nil
}

func (s *stream) Close() error { return s.rc.Close() }

// watched is a body that gives up when one read takes too long.
type watched struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	idle   time.Duration
}

func watch(ctx context.Context, cancel context.CancelCauseFunc, body io.ReadCloser, idle time.Duration) *watched {
	t := time.AfterFunc(idle, func() { cancel(errIdle) })
	t.Stop()
	return &watched{ReadCloser: body, ctx: ctx, cancel: cancel, timer: t, idle: idle}
}

func (w *watched) Read(p []byte) (int, error) {
	w.timer.Reset(w.idle)
	n, err := w.ReadCloser.Read(p)
	w.timer.Stop()
	if err != nil && err != io.EOF && w.ctx.Err() != nil {
		err = w.ctx.Err()
		if context.Cause(w.ctx) == errIdle {
			err = errIdle
		}
	}
	return n, err
}

func (w *watched) Close() error {
	w.timer.Stop()
	err := w.ReadCloser.Close()
	w.cancel(nil)
	return err
}
