package erofs

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
)

// ErrTarSize says that a tar is not as long as [Stream] was told.
var ErrTarSize = errors.New("the tar has another size than was announced")

// Stream is [Convert] for [ProfileTar] where the blob is wanted in order, byte by byte, as
// it is made: to send it somewhere. opts.TarSize must be set. Where the tar turns out to
// have another size, an ErrTarSize comes before all of it has been written.
func Stream(ctx context.Context, w io.Writer, src io.Reader, opts Options) (*Layer, error) {
	if opts.Profile != ProfileTar || opts.TarSize <= 0 {
		return nil, fmt.Errorf("stream of profile %q around a tar of %d bytes: only %s can be, and the size must be known", opts.Profile, opts.TarSize, ProfileTar)
	}
	c, err := newConversion(ctx, inOrder{w}, src, opts)
	if err != nil {
		return nil, err
	}
	c.exact = true
	if err := c.run(); err != nil {
		return nil, err
	}
	return c.seal(ctx, nil)
}

// inOrder writes pieces that come in order.
type inOrder struct{ w io.Writer }

func (o inOrder) WriteAt(p []byte, _ int64) (int, error) { return o.w.Write(p) }

// copyTar is where the tar goes into the image.
func (c *conversion) copyTar(chunk *chunk) error {
	if c.exact && c.in.read > c.opts.TarSize {
		return fmt.Errorf("%w: more than %d bytes", ErrTarSize, c.opts.TarSize)
	}
	return c.out.write(chunk.buf, chunk)
}

// endTar is called when all of the tar has been read.
func (c *conversion) endTar() error {
	if c.exact && c.in.read != c.opts.TarSize {
		return fmt.Errorf("%w: %d bytes and not %d", ErrTarSize, c.in.read, c.opts.TarSize)
	}
	if c.opts.Profile == ProfileTar {
		return c.out.pad()
	}
	return nil
}

// sealed is the layer of a blob that was written in order.
func (c *conversion) sealed() *Layer {
	l := &c.layer
	if c.sums != nil {
		l.Digest = digest.NewDigest(digest.SHA256, c.sums.blob)
		l.ImageDigest = l.Digest
		l.Metadata.Digest = digest.NewDigest(digest.SHA256, c.sums.meta)
	}
	return l
}
