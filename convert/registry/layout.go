package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
)

// Layout is one tag or digest of an OCI layout, to read from and, if it came
// from Create, to write to. It is safe for concurrent use, by several processes
// too, and keeps no file open between calls. No path in it leads outside of the
// directory, whatever symbolic links lie there.
type Layout struct {
	dir    string
	tag    string
	digest digest.Digest
	root   root
	quiet  func(context.Context, time.Duration, string) func() // as Options.Quiet
}

var _ convert.Target = (*Layout)(nil)

func openLayout(p place, o Options) (*Layout, error) {
	l, err := newLayout(p, o)
	if err != nil {
		return nil, err
	}
	if _, err := l.index(); err != nil {
		return nil, fmt.Errorf("open %s: %w", l.Name(), err)
	}
	return l, nil
}

func newLayout(p place, o Options) (*Layout, error) {
	dir, err := filepath.Abs(p.path)
	if err != nil {
		return nil, fmt.Errorf("open oci:%s: %w", p.path, err)
	}
	return &Layout{dir: dir, tag: p.tag, digest: p.digest, root: newRoot(), quiet: o.quiet()}, nil
}

// Name is oci:DIR:TAG with an absolute DIR.
func (l *Layout) Name() string { return placeName("oci", l.dir, l.tag, l.digest) }

func placeName(scheme, path, tag string, d digest.Digest) string {
	name := scheme + ":" + path
	if tag != "" {
		name += ":" + tag
	}
	if d != "" {
		name += "@" + d.String()
	}
	return name
}

// in runs f with the layout's directory opened, so that nothing f names lies
// outside of it.
func (l *Layout) in(f func(*os.Root) error) error {
	dir, err := os.OpenRoot(l.dir)
	if err != nil {
		return missing(err)
	}
	return errors.Join(f(dir), dir.Close())
}

// missing gives a file that is not there its kinds.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &Error{text: err.Error(), kinds: []error{errdefs.ErrNotFound, convert.ErrNotFound, fs.ErrNotExist}}
	}
	return err
}

func blobPath(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

func (l *Layout) index() (*layoutIndex, error) {
	var x *layoutIndex
	err := l.in(func(dir *os.Root) (err error) {
		x, err = readLayoutIndex(dir)
		return err
	})
	return x, err
}

func readLayoutIndex(dir *os.Root) (*layoutIndex, error) {
	f, err := openRegular(dir, indexFile)
	if err != nil {
		return nil, missing(err)
	}
	defer f.Close()
	raw, err := readManifest(f)
	if err != nil {
		return nil, err
	}
	return parseLayoutIndex(raw)
}

// openRegular does not wait for the other end of a pipe that somebody left
// where a file should be.
func openRegular(dir *os.Root, name string) (*os.File, error) {
	info, err := dir.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, invalid("%s is no regular file", name)
	}
	return dir.Open(name)
}

// Root looks the tag up in index.json, once.
func (l *Layout) Root(ctx context.Context) (ocispec.Descriptor, error) {
	desc, err := l.root.resolve(ctx, func() (ocispec.Descriptor, []byte, error) {
		x, err := l.index()
		if err != nil {
			return ocispec.Descriptor{}, nil, err
		}
		desc, err := chosen(x, l.tag, l.digest, func(d digest.Digest) ([]byte, error) {
			return l.readBlob(ocispec.Descriptor{Digest: d, Size: maxManifest})
		})
		return desc, nil, err
	})
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("resolve %s: %w", l.Name(), err)
	}
	return desc, nil
}

// chosen finds an image by digest, wherever it lies in the layout, or by tag. Of
// an index entry only what says which content it is stays: the rest is the
// layout's, not the image's.
func chosen(x *layoutIndex, tag string, want digest.Digest, read func(digest.Digest) ([]byte, error)) (ocispec.Descriptor, error) {
	if want == "" {
		d, err := x.choose(tag)
		return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}, err
	}
	raw, err := read(want)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{MediaType: sniff(raw), Digest: want, Size: int64(len(raw))}, nil
}

func (l *Layout) readBlob(desc ocispec.Descriptor) ([]byte, error) {
	rc, err := l.open(desc, 0, desc.Size+1)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return readManifest(rc)
}

// Fetch opens the file of a manifest or blob.
func (l *Layout) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	rc, err := l.open(desc, 0, desc.Size+1)
	if err != nil {
		return nil, fmt.Errorf("fetch from %s: %w", l.Name(), err)
	}
	return rc, nil
}

// FetchRange opens n bytes of a blob from off.
func (l *Layout) FetchRange(_ context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	err := checkRange(desc, off, n)
	if err == nil && n == 0 {
		return http.NoBody, nil
	}
	var rc io.ReadCloser
	if err == nil {
		rc, err = l.open(desc, off, n)
	}
	if err != nil {
		return nil, fmt.Errorf("fetch from %s: %w", l.Name(), err)
	}
	return rc, nil
}

func (l *Layout) open(desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	if err := checkDigest(desc.Digest); err != nil {
		return nil, err
	}
	var f *os.File
	err := l.in(func(dir *os.Root) (err error) {
		f, err = openRegular(dir, blobPath(desc.Digest))
		return missing(err)
	})
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, off, n), f}, nil
}

// Has looks for the blob's file. One of another size is not taken for it.
func (l *Layout) Has(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	if err := checkDigest(desc.Digest); err != nil {
		return false, err
	}
	has := false
	err := l.in(func(dir *os.Root) error {
		info, err := dir.Stat(blobPath(desc.Digest))
		has = err == nil && info.Mode().IsRegular() && info.Size() == desc.Size
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("look for %s in %s: %w", desc.Digest, l.Name(), err)
	}
	return has, nil
}

// Referrers are the entries of index.json whose manifest names dgst as its
// subject, those of the fallback tag's index, and cosign's tags.
func (l *Layout) Referrers(ctx context.Context, dgst digest.Digest) ([]ocispec.Descriptor, error) {
	if err := checkDigest(dgst); err != nil {
		return nil, err
	}
	x, err := l.index()
	if err == nil {
		var found []ocispec.Descriptor
		if found, err = x.referrers(ctx, dgst, l.readBlob); err == nil {
			return found, nil
		}
	}
	return nil, fmt.Errorf("list referrers of %s in %s: %w", dgst, l.Name(), err)
}
