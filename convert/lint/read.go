package lint

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
	goerofs "github.com/erofs/go-erofs"
	"github.com/klauspost/compress/zstd"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/frames"
	"github.com/lithify/lithify/convert/inspect"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// reading is that of one layer.
type reading struct {
	ctx  context.Context
	src  *watched
	temp string
	deep bool
	l    *layer
	of   *layer // that a standalone chunk index is of

	blob io.ReaderAt
	open []io.Closer
}

func (r *reading) close() error {
	var errs []error
	for i := len(r.open) - 1; i >= 0; i-- {
		errs = append(errs, r.open[i].Close())
	}
	return errors.Join(errs...)
}

// read notes all that there is to know. Its errors are the source's.
func (r *reading) read() error {
	if err := r.openBlob(); err != nil || r.l.damaged != nil {
		return err
	}
	l := r.l
	switch {
	case l.isEROFS():
		r.readChunks()
		err := r.readImage(r.openImage)
		if err != nil && r.src.err == nil && l.isZstd() && l.Annotations[erofs.AnnotationChunkIndexRange] != "" && !r.deep {
			// It may be the index that is wrong, which the rules for it say.
			err = r.readImage(r.openFrames)
		}
		switch {
		case r.src.err != nil:
			return r.src.err
		case errdefs.IsNotImplemented(err) || errors.Is(err, goerofs.ErrNotImplemented):
			l.unread = err
		default:
			l.problem = err
		}
	case l.isIndex():
		l.chunks = &chunkIndex{end: l.Size, of: r.of}
		r.readPayload(l.chunks, 0, l.Size)
		if c := l.chunks; c.raw != nil && c.raw.Whole() == nil && c.of != nil {
			r.checkChunks(c, convert.ReaderAt(r.ctx, r.src, c.of.Descriptor))
		}
	}
	if r.src.err == nil {
		r.readHeld()
	}
	return r.src.err
}

// openBlob fetches the blob whole if it is to be read deep.
func (r *reading) openBlob() error {
	if !r.deep {
		r.blob = convert.ReaderAt(r.ctx, r.src, r.l.Descriptor)
		return nil
	}
	f, err := inspect.FetchWhole(r.ctx, r.src, r.l.Descriptor, r.temp)
	if refused, ok := errors.AsType[*convert.RefusedError](err); ok && r.src.err == nil {
		r.l.damaged = refused
		return nil
	}
	if err != nil {
		return err
	}
	r.blob, r.open = f, append(r.open, f)
	return nil
}

// openImage gives the image in the blob.
func (r *reading) openImage() (io.ReaderAt, error) {
	l := r.l
	switch {
	case r.deep && l.isZstd():
		f, err := frames.Open(r.blob, l.Size)
		if err == nil {
			r.open = append(r.open, f)
		}
		return f, err
	case r.deep:
		return r.blob, nil
	}
	return r.openContent(l.Descriptor)
}

// openFrames gives the image in frames of zstd, whatever their index says.
func (r *reading) openFrames() (io.ReaderAt, error) {
	d := r.l.Descriptor
	d.Annotations = nil
	return r.openContent(d)
}

func (r *reading) openContent(d ocispec.Descriptor) (io.ReaderAt, error) {
	c, err := inspect.OpenContent(r.ctx, r.src, d, r.temp)
	if err != nil {
		return nil, err
	}
	r.open = append(r.open, c)
	return c, nil
}

// readImage reads the superblock, what it names, and the files.
func (r *reading) readImage(open func() (io.ReaderAt, error)) error {
	image, err := open()
	if err != nil {
		return err
	}
	l := r.l
	l.tags, l.verity = nil, verity{}
	if l.super, err = inspect.ReadFileSystem(image); err != nil {
		return err
	}
	if l.super.Devices > 0 {
		if l.tags, err = erofs.DeviceTags(image); err != nil {
			return err
		}
	}
	if end := l.super.Blocks * l.super.BlockSize; !l.isZstd() && l.Annotations[erofs.AnnotationChunkIndexRange] == "" {
		r.lookForIndex(image, end)
	}
	l.verity.read(r.ctx, image, l, r.deep)
	fsys, err := erofs.Open(image)
	if err != nil {
		return err
	}
	f := &files{ctx: r.ctx, fsys: fsys, contents: r.deep && l.super.Devices == 0, links: map[int64]*linked{}}
	if err := f.walk("."); err != nil {
		return err
	}
	l.files = f
	return nil
}

// lookForIndex looks behind a raw image, and behind its tree of hashes, for an index.
func (r *reading) lookForIndex(image io.ReaderAt, end int64) {
	at := []int64{end}
	if t := r.l.verity.tree; t != nil {
		at = append(at, t.End())
	}
	for _, off := range at {
		var magic [4]byte
		if off <= 0 || off > r.l.Size-int64(len(magic)) {
			continue
		}
		if _, err := image.ReadAt(magic[:], off); err == nil && string(magic[:]) == erofs.ChunkIndexMagic {
			r.l.hidden = off
		}
	}
}

// lookForFrame looks for an index at the end of zstd frames.
func (r *reading) lookForFrame() {
	size := r.l.Size
	tail := make([]byte, min(64<<10, size))
	if _, err := r.blob.ReadAt(tail, size-int64(len(tail))); err != nil && err != io.EOF {
		return
	}
	for i := bytes.LastIndex(tail, []byte(erofs.ChunkIndexMagic)); i >= erofs.SkippableHeader; i = bytes.LastIndex(tail[:i], []byte(erofs.ChunkIndexMagic)) {
		if erofs.IsSkippable(tail[i-erofs.SkippableHeader:i], int64(len(tail)-i)) {
			r.l.hidden = size - int64(len(tail)-i) - erofs.SkippableHeader
			return
		}
	}
}

// readHeld computes what DiffIDs are made of, which is known of what is not compressed and
// for the rest takes all of the blob.
func (r *reading) readHeld() {
	l := r.l
	suffix := l.MediaType[strings.LastIndexByte(l.MediaType, '+')+1:]
	packed := suffix == "gzip" || suffix == "zstd" || strings.HasSuffix(l.MediaType, ".tar.gzip")
	if !packed {
		l.holds = l.Digest
	}
	if !packed || !r.deep {
		return
	}
	in := io.NewSectionReader(r.blob, 0, l.Size)
	var err error
	if suffix == "zstd" {
		var dec *zstd.Decoder
		if dec, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true)); err == nil {
			l.holds, err = sum(r.ctx, dec)
			dec.Close()
		}
	} else {
		var dec *gzip.Reader
		if dec, err = gzip.NewReader(in); err == nil {
			l.holds, err = sum(r.ctx, dec)
		}
	}
	if err != nil && l.problem == nil {
		l.problem = fmt.Errorf("decompress: %w", err)
	}
}

func sum(ctx context.Context, in io.Reader) (digest.Digest, error) {
	return digest.FromReader(contextReader{ctx, in})
}

// contextReader ends with ctx.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
