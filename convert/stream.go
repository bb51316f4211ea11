package convert

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/erofs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// streamer is a Target that takes a blob while it is made. It need not have it: nobody
// knows the digest before.
type streamer interface {
	// PushStream sends what write writes and then has the target call it as write says.
	// write has returned when PushStream does, and is not called again. Its error is given
	// as it is.
	PushStream(ctx context.Context, write func(io.Writer) (ocispec.Descriptor, error)) error
}

// stream sends a layer while it is made, through no file. It gives nil where that did not
// work and another way may.
func (c *conversion) stream(ctx context.Context, t task, in *unpacked, s streamer, opts erofs.Options) (*erofs.Layer, error) {
	var made *erofs.Layer
	var own error // of the source or the tar
	err := s.PushStream(ctx, func(w io.Writer) (desc ocispec.Descriptor, err error) {
		if made, own = erofs.Stream(ctx, w, in.tar, opts); own == nil {
			own = in.blob.drain()
		}
		if own != nil {
			return desc, own
		}
		return c.blobOf(made), nil
	})
	switch {
	case err == nil:
		return made, nil
	case own != nil && errors.Is(err, own) && !errors.Is(own, erofs.ErrTarSize):
		return nil, c.blame(in.blob, own)
	case ctx.Err() != nil, errdefs.IsUnauthorized(err), errdefs.IsPermissionDenied(err):
		return nil, err
	}
	c.log.WarnContext(ctx, "layer not sent while it was made; it is made again, in a temporary file", "layer", t.desc.Digest, "err", err)
	return nil, nil
}

// tarSize is how long the task's tar is by what its blob says, 0 if that is nothing. It
// may be wrong.
func (c *conversion) tarSize(ctx context.Context, t task, tar *decompressed) int64 {
	switch tar.format {
	case "":
		return t.desc.Size
	case "gzip":
		return c.gzipSize(ctx, t.desc)
	}
	return tar.size
}

// maxGzip is up to which size the end of a gzip blob is believed: it has the tar's size
// modulo 2^32.
const maxGzip = 1 << 30

// gzipSize reads the last four bytes of a gzip blob, RFC 1952's ISIZE. It is that of the
// last member alone, and the remainder of a division by 2^32; what cannot be so gives 0.
func (c *conversion) gzipSize(ctx context.Context, desc ocispec.Descriptor) int64 {
	f, ok := c.src.(rangeFetcher)
	if !ok || desc.Size > maxGzip || desc.Size < 18 {
		return 0
	}
	var size [4]byte
	rc, err := f.FetchRange(ctx, desc, desc.Size-int64(len(size)), int64(len(size)))
	if err != nil {
		return 0
	}
	defer rc.Close()
	if _, err := io.ReadFull(rc, size[:]); err != nil {
		return 0
	}
	n := int64(binary.LittleEndian.Uint32(size[:]))
	// A tar is of whole blocks, and what deflate cannot compress it makes longer by 5
	// bytes in 65535.
	if n%512 != 0 || n+n>>12+64 < desc.Size {
		return 0
	}
	return n
}
