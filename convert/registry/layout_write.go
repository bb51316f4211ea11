package registry

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
)

// syncTimeout is as long as a sync is believed to take: nothing can end it.
const syncTimeout = 15 * time.Minute

// createLayout writes nothing yet: a conversion that fails leaves no directory.
func createLayout(p place, o Options) (*Layout, error) {
	l, err := newLayout(p, o)
	if err != nil {
		return nil, err
	}
	if err := l.in(vacant); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("create %s: %w", l.Name(), err)
	}
	return l, nil
}

// write is in for what changes the layout, which is made when it is first
// written to.
func (l *Layout) write(ctx context.Context, f func(*os.Root) error) error {
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return err
	}
	return l.in(func(dir *os.Root) error {
		if _, err := dir.Stat(layoutFile); errors.Is(err, fs.ErrNotExist) {
			if err := begin(ctx, dir); err != nil {
				return err
			}
		}
		return f(dir)
	})
}

// begin makes a layout without images.
func begin(ctx context.Context, dir *os.Root) error {
	if err := vacant(dir); err != nil {
		return err
	}
	// The file is also the lock's, so it is never replaced.
	f, err := dir.OpenFile(layoutFile, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil // somebody else begins it
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := errors.Join(writeVersion(f), lock(ctx, f)); err != nil {
		return err
	}
	if _, err := dir.Stat(indexFile); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeIndex(dir, emptyIndex())
}

func writeVersion(f *os.File) error {
	if _, err := fmt.Fprintf(f, `{"imageLayoutVersion":%q}`, ocispec.ImageLayoutVersion); err != nil {
		return err
	}
	return f.Sync()
}

func writeIndex(dir *os.Root, x *layoutIndex) error {
	raw, err := x.bytes()
	if err != nil {
		return err
	}
	return replace(dir, indexFile, func(w io.Writer) error {
		_, err := w.Write(raw)
		return err
	})
}

// vacant refuses a directory that holds something else than a layout.
func vacant(dir *os.Root) error {
	if _, err := dir.Stat(layoutFile); err == nil {
		return nil
	}
	if _, err := dir.Stat(indexFile); err == nil {
		return nil
	}
	entries, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != layoutFile { // another process may have begun
			return fmt.Errorf("the directory is neither empty nor an OCI layout: %w", errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

// WithTag is another tag of the same layout.
func (l *Layout) WithTag(tag string) (convert.Target, error) {
	if tag == "" {
		return nil, invalid("tag of %s: it is empty", l.Name())
	}
	return &Layout{dir: l.dir, tag: tag, root: newRoot(), quiet: l.quiet}, nil
}

// Push writes a blob beside its place, syncs it and renames it. Unlike a
// registry nobody stands behind a layout, so digest and size are checked here.
func (l *Layout) Push(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	if has, err := l.Has(ctx, desc); err != nil || has {
		return err
	}
	rc, err := open()
	if err != nil {
		return fmt.Errorf("push %s to %s: %w", desc.Digest, l.Name(), err)
	}
	synced := func() {}
	err = l.write(ctx, func(dir *os.Root) error {
		return replace(dir, blobPath(desc.Digest), func(w io.Writer) error {
			err := copyBlob(ctx, w, rc, desc)
			synced = l.syncing(ctx)
			return err
		})
	})
	synced()
	if err := errors.Join(err, rc.Close()); err != nil {
		return fmt.Errorf("push %s to %s: %w", desc.Digest, l.Name(), err)
	}
	return nil
}

// syncing declares a sync. Some disks write less than 100 MB/s, and a sync waits
// for what others have written, too.
func (l *Layout) syncing(ctx context.Context) (end func()) {
	return l.quiet(ctx, syncTimeout, "syncing a blob of "+l.Name())
}

func copyBlob(ctx context.Context, w io.Writer, r io.Reader, desc ocispec.Descriptor) error {
	sum := desc.Digest.Verifier()
	n, err := io.Copy(io.MultiWriter(w, sum), io.LimitReader(&ctxReader{ctx, r}, desc.Size+1))
	if err != nil {
		return err
	}
	if n != desc.Size || !sum.Verified() {
		return invalid("the content is not what the descriptor says (%d bytes)", desc.Size)
	}
	return nil
}

// ctxReader makes a copy between files end with its context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// aside is a new name beside name for what is to take its place.
func aside(name string) string { return path.Join(path.Dir(name), ".lithify-"+rand.Text()) }

// replace puts a whole new file in the place of name, or leaves all as it was.
func replace(dir *os.Root, name string, write func(io.Writer) error) error {
	if err := dir.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	tmp := aside(name)
	f, err := dir.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = dir.Rename(tmp, name)
	}
	if err != nil {
		return errors.Join(err, dir.Remove(tmp))
	}
	return syncDir(dir, path.Dir(name))
}

// Adopt makes f the blob, by linking it, where it lies on the same file system; it
// may have no name. It reports false where it has to be copied, as always but on
// Linux. The caller has just computed the digest: the bytes are not read again.
func (l *Layout) Adopt(ctx context.Context, desc ocispec.Descriptor, f *os.File) (adopted bool, err error) {
	if has, err := l.Has(ctx, desc); err != nil || has {
		return has, err
	}
	defer l.syncing(ctx)()
	err = l.write(ctx, func(dir *os.Root) error {
		adopted, err = adopt(dir, blobPath(desc.Digest), desc.Size, f)
		return err
	})
	if err != nil {
		return adopted, fmt.Errorf("adopt %s in %s: %w", desc.Digest, l.Name(), err)
	}
	return adopted, nil
}

func adopt(dir *os.Root, name string, size int64, f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() || info.Size() != size {
		return false, invalid("%s has %d bytes and mode %v, not %d bytes", f.Name(), info.Size(), info.Mode(), size)
	}
	if err := dir.MkdirAll(path.Dir(name), 0o755); err != nil {
		return false, err
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync()); err != nil {
		return false, err
	}
	tmp := aside(name)
	if link(f, dir, tmp) != nil {
		return false, nil // another file system
	}
	if err := dir.Rename(tmp, name); err != nil {
		return false, errors.Join(err, dir.Remove(tmp))
	}
	return true, syncDir(dir, path.Dir(name))
}

// Mount reports false: another layout's files are nobody's word that they are
// what their names say.
func (l *Layout) Mount(context.Context, ocispec.Descriptor, convert.Source) (bool, error) {
	return false, nil
}

// PutManifest stores raw under its digest. It is in index.json only once Tag has
// named it.
func (l *Layout) PutManifest(ctx context.Context, desc ocispec.Descriptor, raw []byte) error {
	if err := checkManifest(desc, raw); err != nil {
		return err
	}
	return l.Push(ctx, desc, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil })
}

// Head is what the tag names now.
func (l *Layout) Head(context.Context) (ocispec.Descriptor, error) {
	desc, err := l.head()
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("look up %s: %w", l.Name(), err)
	}
	return desc, nil
}

func (l *Layout) head() (ocispec.Descriptor, error) {
	x, err := l.index()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	i, err := x.named(l.tag)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if i < 0 {
		return ocispec.Descriptor{}, missing(fs.ErrNotExist)
	}
	d := x.descs[i]
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}, nil
}

// Tag changes index.json under a lock, so no write of another lithify is lost.
// Tools that do not know the lock (all others) are as safe as they are with each
// other: the file is replaced whole.
func (l *Layout) Tag(ctx context.Context, desc ocispec.Descriptor, raw []byte, was digest.Digest) error {
	if err := checkManifest(desc, raw); err != nil {
		return err
	}
	err := l.write(ctx, func(dir *os.Root) error {
		f, err := dir.OpenFile(layoutFile, os.O_RDWR, 0)
		if err != nil {
			return missing(err)
		}
		defer f.Close()
		if err := lock(ctx, f); err != nil {
			return err
		}
		if err := mend(f); err != nil {
			return err
		}
		return l.retag(dir, desc, was)
	})
	if err != nil {
		return fmt.Errorf("tag %s as %s: %w", desc.Digest, l.Name(), err)
	}
	return nil
}

// mend writes what one who died between begin's first two steps has left out. One
// who still lives writes the same bytes to the same place.
func mend(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Size() > 0 {
		return err
	}
	return writeVersion(f)
}

// retag runs with the lock held.
func (l *Layout) retag(dir *os.Root, desc ocispec.Descriptor, was digest.Digest) error {
	x, err := readLayoutIndex(dir)
	if errors.Is(err, convert.ErrNotFound) {
		x, err = emptyIndex(), nil
	}
	if err != nil {
		return err
	}
	i, err := x.named(l.tag)
	if err != nil {
		return err
	}
	var now digest.Digest
	if i >= 0 {
		now = x.descs[i].Digest
	}
	if now == desc.Digest {
		return nil
	}
	if now != was {
		return moved(now)
	}
	if err := x.set(l.tag, desc); err != nil {
		return err
	}
	return writeIndex(dir, x)
}
