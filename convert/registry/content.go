package registry

import (
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
	// idleTimeout ends an exchange in which a body has not moved for so long. It is
	// less than the minute after which a job that says nothing loses its worker.
	idleTimeout = 45 * time.Second
)

var errIdle = errors.New("no data moved for too long")

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
