package inspect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/frames"
	"github.com/lithify/lithify/erofs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// head is how much of a layer is fetched to see what it is, in bytes; the superblock of a file
// system ends at 1152.
const head = 8 << 10

// maxPinned is up to where all of an image's metadata is fetched at once.
const maxPinned = 16 << 20

// layer is one of EROFS, as far as it has been fetched.
type layer struct {
	fs.ReadLinkFS
	io.Closer
}

// openLayer opens the file system of a layer. What is fetched of it whole lies in temp.
func openLayer(ctx context.Context, src convert.Source, m erofs.Mounted, temp string) (*layer, error) {
	desc := m.Descriptor
	switch {
	case len(m.Devices) == 1 && !strings.HasSuffix(desc.MediaType, "+zstd"):
		return openIndex(ctx, src, desc, m.Devices[0], temp)
	case len(m.Devices) > 0:
		return nil, &convert.RefusedError{What: desc.Digest.String(), Why: fmt.Sprintf("has files in %d other layers, or is compressed; of one layer whose files are elsewhere, that one tar is read here", len(m.Devices))}
	}
	c, err := OpenContent(ctx, src, desc, temp)
	if err != nil {
		return nil, err
	}
	fsys, err := erofs.Open(c)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("layer %s: %w", desc.Digest, err), c.Close())
	}
	return &layer{fsys, c}, nil
}

// openIndex opens a layer whose files lie in the tar of another, which is fetched once a file is
// read.
func openIndex(ctx context.Context, src convert.Source, desc, carrier ocispec.Descriptor, temp string) (*layer, error) {
	r, err := newRanges(ctx, src, desc)
	if err != nil {
		return nil, err
	}
	tar := &carried{ctx: ctx, src: src, desc: carrier, temp: temp}
	image, size, err := erofs.Join(r, tar)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", desc.Digest, err)
	}
	tar.size = size
	fsys, err := erofs.Open(image)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("layer %s: %w", desc.Digest, err), tar.Close())
	}
	return &layer{fsys, closers{tar}}, nil
}

// carried is the tar in a layer, which comes here whole when it is first read.
type carried struct {
	ctx  context.Context // of the call that all of it is for
	src  convert.Source
	desc ocispec.Descriptor
	temp string
	size int64 // of what is of use, decompressed

	once sync.Once
	file *convert.Scratch
	err  error
}

func (c *carried) ReadAt(p []byte, off int64) (int, error) {
	c.once.Do(func() { c.err = c.bring() })
	if c.err != nil {
		return 0, c.err
	}
	return c.file.ReadAt(p, off)
}

func (c *carried) bring() (err error) {
	if c.file, err = convert.TempFile(c.temp); err != nil {
		return err
	}
	return convert.CopyTar(c.ctx, c.src, c.desc, c.file, c.size)
}

// Close removes what was fetched.
func (c *carried) Close() error {
	if c.file == nil {
		return nil
	}
	return c.file.Close()
}

// Content is the image in a layer of EROFS, to be read at random.
type Content struct {
	io.ReaderAt
	closers
}

// OpenContent reads a raw layer by range requests, and one of zstd frames by its chunk index,
// which has to be right. One without an index that is read here is fetched whole, into temp.
func OpenContent(ctx context.Context, src convert.Source, desc ocispec.Descriptor, temp string) (*Content, error) {
	if strings.HasSuffix(desc.MediaType, "+zstd") {
		return openFrames(ctx, src, desc, temp)
	}
	r, err := newRanges(ctx, src, desc)
	if err != nil {
		return nil, err
	}
	if super, err := readSuper(r); err == nil {
		if off, n := super.metadata(desc.Size); n <= maxPinned {
			if err := r.pin(off, n); err != nil {
				return nil, err
			}
		}
	}
	return &Content{ReaderAt: r}, nil
}

// openFrames reads a layer of zstd frames by its chunk index, if that can be.
func openFrames(ctx context.Context, src convert.Source, desc ocispec.Descriptor, temp string) (*Content, error) {
	if _, ok := src.(rangeFetcher); ok {
		r, err := erofs.OpenImage(convert.ReaderAt(ctx, src, desc), desc)
		if err == nil {
			return &Content{ReaderAt: r}, nil
		}
		if !errors.Is(err, erofs.ErrNoChunkIndex) {
			return nil, err
		}
	}
	f, err := FetchWhole(ctx, src, desc, temp)
	if err != nil {
		return nil, err
	}
	r, err := frames.Open(f, desc.Size)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("layer %s: %w", desc.Digest, err), f.Close())
	}
	return &Content{r, closers{r, f}}, nil
}

type closers []io.Closer

// Close closes all.
func (c closers) Close() error {
	var errs []error
	for _, one := range c {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

// FetchWhole brings a blob into a file in temp (default os.TempDir()), and compares it with its
// digest: where it is not that, the error is a *convert.RefusedError.
func FetchWhole(ctx context.Context, src convert.Source, desc ocispec.Descriptor, temp string) (_ *convert.Scratch, err error) {
	rc, err := convert.Fetch(ctx, src, desc)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	f, err := convert.TempFile(temp)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(f, rc); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// readHead gives the first bytes of what a layer holds, decompressed, and fetches few more.
func readHead(ctx context.Context, src convert.Source, desc ocispec.Descriptor) ([]byte, error) {
	r, err := newRanges(ctx, src, desc)
	if err != nil {
		return nil, err
	}
	in := io.Reader(io.NewSectionReader(r, 0, desc.Size))
	if strings.HasSuffix(desc.MediaType, "+zstd") {
		dec, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			return nil, err
		}
		defer dec.Close()
		in = dec
	}
	var b bytes.Buffer
	_, err = io.CopyN(&b, in, head)
	if err == io.EOF {
		err = nil
	}
	return b.Bytes(), err
}
