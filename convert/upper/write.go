package upper

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

// Options say what becomes of what is found. The zero value keeps all of it.
type Options struct {
	// ModTime bounds the time of every entry from above, and is that of whiteouts,
	// which have none: SOURCE_DATE_EPOCH. Zero: no bound, and whiteouts are of 1970.
	ModTime time.Time
	// Skip is asked for each name, relative to the root and with slashes; what it
	// skips is left out with all below it.
	Skip func(name string, d fs.DirEntry) bool
	// UserXattrs says that overlayfs was mounted with userxattr: its marks are
	// user.overlay.* and not trusted.overlay.*.
	UserXattrs bool
	// Owner says whose a file is in the layer, of whose it is here: a container in a user
	// namespace has other names for them. nil: the same.
	Owner func(uid, gid uint32) (uint32, uint32)
}

// The OCI image spec's whiteouts.
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// Write writes the tar of the upper directory dir to w, its end blocks included. Names
// are in the order of their bytes, a directory before what it holds. Sockets, which no
// tar holds, are left out.
//
// What a tar cannot say is an error of the kind errdefs.ErrFailedPrecondition that names
// the file: a file whose data lies in a lower layer (metacopy), a directory that was
// renamed in place (redirect_dir), a name that begins with ".wh.". So is a file that
// changes while it is read. After an error w has part of a tar.
func Write(ctx context.Context, w io.Writer, dir string, o Options) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	top, err := openTop(dir)
	if err != nil {
		return err
	}
	defer top.Close()
	t := &writer{ctx: ctx, root: root, top: top, tar: tar.NewWriter(w), opts: o, links: map[inode]string{}, buf: make([]byte, 1<<20)}
	info, err := root.Lstat(".")
	if err != nil {
		return err
	}
	if err := t.walk(".", info); err != nil {
		return err
	}
	return t.tar.Close()
}

func (o Options) owner(uid, gid uint32) (uint32, uint32) {
	if o.Owner == nil {
		return uid, gid
	}
	return o.Owner(uid, gid)
}

// inode tells files apart that have several names.
type inode struct{ dev, ino uint64 }

type writer struct {
	ctx   context.Context
	root  *os.Root
	top   top
	tar   *tar.Writer
	opts  Options
	links map[inode]string // first name of a file with several
	buf   []byte
}

func (t *writer) walk(name string, info fs.FileInfo) error {
	if err := context.Cause(t.ctx); err != nil {
		return err
	}
	if err := t.entry(name, info); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if !info.IsDir() {
		return nil
	}
	kids, err := t.list(name)
	if err != nil {
		return err
	}
	for _, d := range kids {
		kid := path.Join(name, d.Name())
		if t.opts.Skip != nil && t.opts.Skip(kid, d) {
			continue
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("%s: %w", kid, err)
		}
		if err := t.walk(kid, info); err != nil {
			return err
		}
	}
	return nil
}

func (t *writer) list(name string) ([]fs.DirEntry, error) {
	d, err := t.open(name)
	if err != nil {
		return nil, err
	}
	kids, err := d.ReadDir(-1)
	slices.SortFunc(kids, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return kids, errors.Join(err, d.Close())
}

func (t *writer) entry(name string, info fs.FileInfo) error {
	s := statOf(info)
	base := path.Base(name)
	switch {
	case s.isWhiteout(info):
		return t.mark(path.Join(path.Dir(name), whiteoutPrefix+base))
	case len(base) >= len(whiteoutPrefix) && base[:len(whiteoutPrefix)] == whiteoutPrefix:
		return precondition("the name begins with %q, which in a layer means that another file is deleted", whiteoutPrefix)
	case info.Mode()&fs.ModeSocket != 0:
		return nil
	}
	xattrs, err := t.xattrs(name)
	if err != nil {
		return err
	}
	h, err := t.header(name, info, s, xattrs)
	if err != nil {
		return err
	}
	if first, ok := t.links[s.inode]; ok && s.nlink > 1 && !info.IsDir() {
		// The attributes stay: containerd's applier changes the owner of a link, at which
		// the kernel drops the file's capabilities.
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		return t.tar.WriteHeader(h)
	}
	if s.nlink > 1 && !info.IsDir() {
		t.links[s.inode] = h.Name
	}
	if err := t.tar.WriteHeader(h); err != nil {
		return err
	}
	switch {
	case info.Mode().IsRegular():
		return t.contents(name, info)
	case info.IsDir() && xattrs.opaque:
		return t.mark(path.Join(name, whiteoutOpaque))
	}
	return nil
}

// mark is an empty file whose name says all.
func (t *writer) mark(name string) error {
	at := t.opts.ModTime
	if at.IsZero() {
		at = time.Unix(0, 0)
	}
	return t.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, ModTime: at, Format: tar.FormatPAX})
}

func (t *writer) header(name string, info fs.FileInfo, s stat, x xattrs) (*tar.Header, error) {
	uid, gid := t.opts.owner(s.uid, s.gid)
	h := &tar.Header{
		Name: name, Mode: s.mode, Uid: int(uid), Gid: int(gid),
		ModTime: t.bound(info.ModTime()), PAXRecords: x.records, Format: tar.FormatPAX,
	}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		h.Typeflag, h.Size = tar.TypeReg, info.Size()
	case mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case mode&fs.ModeSymlink != 0:
		target, err := t.root.Readlink(name)
		if err != nil {
			return nil, err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case mode&fs.ModeNamedPipe != 0:
		h.Typeflag = tar.TypeFifo
	case mode&fs.ModeDevice != 0:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeBlock, s.major, s.minor
		if mode&fs.ModeCharDevice != 0 {
			h.Typeflag = tar.TypeChar
		}
	default:
		return nil, precondition("a file of mode %v has no place in a tar", mode)
	}
	return h, nil
}

func (t *writer) bound(at time.Time) time.Time {
	if !t.opts.ModTime.IsZero() && at.After(t.opts.ModTime) {
		return t.opts.ModTime
	}
	return at
}

// open does not wait: a container that is not paused may have put a pipe there.
func (t *writer) open(name string) (*os.File, error) {
	return t.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// contents copies what the header promised.
func (t *writer) contents(name string, info fs.FileInfo) error {
	size := info.Size()
	if size == 0 {
		return nil
	}
	f, err := t.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	// A container may make device nodes, which are to it what its cgroup allows and
	// to us the disks of this machine.
	if now, err := f.Stat(); err != nil {
		return err
	} else if !now.Mode().IsRegular() || !os.SameFile(info, now) {
		return precondition("it was replaced while it was read: commit it while the container is paused")
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{t.tar}, &patient{t.ctx, io.LimitReader(f, size)}, t.buf)
	if err == nil && n < size {
		return precondition("it became shorter while it was read: commit it while the container is paused")
	}
	return err
}

// patient is a reader that ends with its context.
type patient struct {
	ctx context.Context
	io.Reader
}

func (r *patient) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

func precondition(format string, args ...any) error {
	return fmt.Errorf(format+" (%w)", append(args, errdefs.ErrFailedPrecondition)...)
}
