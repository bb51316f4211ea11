package convert

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"

	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// view looks into a converted layer that lies in the target. It reads the
// layer's metadata when it is first asked something, and files only when they
// are opened.
type view struct {
	layer *erofs.Layer
	desc  ocispec.Descriptor
	dst   Target
	temp  string
	meter func(io.Reader) io.Reader // of whatever is read here

	once sync.Once
	meta fs.ReadLinkFS
	err  error

	// Of erofs.ProfileIndex, where the files are.
	src     Source
	carrier ocispec.Descriptor

	mu    sync.Mutex
	image io.ReaderAt // the whole of it, decompressed, once a file has been opened
	files []*Scratch  // that it is in
}

func (c *conversion) viewOf(t task, l *erofs.Layer) *view {
	meter := func(r io.Reader) io.Reader {
		return c.metered(r, Event{Layer: l.Digest, Phase: "resolve", Total: l.Size})
	}
	return &view{layer: l, desc: c.blobOf(l), dst: c.dst, temp: c.opts.TempDir, meter: meter, src: c.src, carrier: t.desc}
}

// blobOf is the descriptor by which a layer's blob is sent and fetched.
func (c *conversion) blobOf(l *erofs.Layer) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: c.opts.Dialect.MediaType(l.Profile), Digest: l.Digest, Size: l.Size}
}

func (v *view) lstat(ctx context.Context, name string) (fs.FileInfo, error) {
	v.once.Do(func() { v.meta, v.err = v.load(ctx) })
	if v.err != nil {
		return nil, v.err
	}
	return v.meta.Lstat(name)
}

func (v *view) load(ctx context.Context) (fs.ReadLinkFS, error) {
	super, meta, err := erofs.ReadMetadata(&rangeReader{ctx, v.dst, v.desc, v.meter}, v.layer)
	if err != nil {
		return nil, err
	}
	return erofs.OpenMetadata(super, meta, v.layer.Metadata)
}

// rangeFetcher is a Source that can send a part of a blob.
type rangeFetcher interface {
	// FetchRange opens n bytes of the blob from off on.
	FetchRange(ctx context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error)
}

// rangeReader reads a blob of the target at random. The context belongs to the
// one call that made the reader.
type rangeReader struct {
	ctx  context.Context
	src  Source
	desc ocispec.Descriptor

	meter func(io.Reader) io.Reader
}

// ReaderAt reads a blob of src at random: by range requests where src is a registry, and
// anywhere else by reading up to each place. Nothing of it is checked, which a chunk index
// (erofs.OpenImage) does. It may be used from many goroutines, until ctx ends.
func ReaderAt(ctx context.Context, src Source, desc ocispec.Descriptor) io.ReaderAt {
	return &rangeReader{ctx, src, desc, func(r io.Reader) io.Reader { return r }}
}

func (r *rangeReader) ReadAt(p []byte, off int64) (int, error) {
	rc, err := r.open(off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	defer rc.Close()
	n, err := io.ReadFull(r.meter(rc), p)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
}

func (r *rangeReader) open(off, n int64) (io.ReadCloser, error) {
	if f, ok := r.src.(rangeFetcher); ok {
		return f.FetchRange(r.ctx, r.desc, off, min(n, r.desc.Size-off))
	}
	rc, err := r.src.Fetch(r.ctx, r.desc)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(io.Discard, r.meter(rc), off); err != nil {
		return nil, errors.Join(err, rc.Close())
	}
	return rc, nil
}

// lowerFile describes a file of this layer so that a layer above can hold a copy
// of it. Its content is read once here for its digest and once by the writer,
// both while the view is open.
func (v *view) lowerFile(ctx context.Context, name string, info fs.FileInfo) (erofs.LowerFile, error) {
	lower, err := erofs.LowerFileOf(info)
	if err != nil {
		return lower, err
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		lower.Target, err = v.meta.ReadLink(name)
		return lower, err
	case !info.Mode().IsRegular():
		return lower, nil
	}
	lower.Open = func() (io.ReadCloser, error) { return v.openFile(ctx, name) }
	rc, err := lower.Open()
	if err != nil {
		return lower, err
	}
	defer rc.Close()
	lower.Digest, err = digest.FromReader(v.meter(rc))
	return lower, err
}

// openFile reads one file of the layer. The first call brings the whole image
// here, where it stays until the view is closed: hard links to lower layers are
// rare, but where there is one there are often many.
func (v *view) openFile(ctx context.Context, name string) (fs.File, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.image == nil {
		image, err := v.fetchImage(ctx)
		if err != nil {
			return nil, err
		}
		v.image = image
	}
	fsys, err := erofs.Open(v.image)
	if err != nil {
		return nil, err
	}
	return fsys.Open(name)
}

func (v *view) fetchImage(ctx context.Context) (io.ReaderAt, error) {
	image, err := v.bring(ctx, v.dst, v.desc)
	if err != nil || v.layer.Profile != erofs.ProfileIndex {
		return image, err
	}
	tar, err := v.bring(ctx, v.src, v.carrier)
	if err != nil {
		return nil, err
	}
	joined, _, err := erofs.Join(image, tar)
	return joined, err
}

// bring decompresses a blob into a file that is there until the view is closed.
func (v *view) bring(ctx context.Context, src Source, desc ocispec.Descriptor) (io.ReaderAt, error) {
	f, err := TempFile(v.temp)
	if err != nil {
		return nil, err
	}
	v.files = append(v.files, f)
	return f, ReadTar(ctx, src, desc, func(r io.Reader) error {
		_, err := io.Copy(f, v.meter(r))
		return err
	})
}

// close removes what openFile brought here. Files opened cannot be read any more.
func (v *view) close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var errs []error
	for _, f := range v.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
