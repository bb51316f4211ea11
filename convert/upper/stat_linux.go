package upper

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// stat is what io/fs does not tell.
type stat struct {
	inode
	nlink        uint64
	mode         int64 // 07777
	uid, gid     uint32
	major, minor int64
	rdev         uint64
}

func statOf(info fs.FileInfo) stat {
	s := info.Sys().(*syscall.Stat_t)
	rdev := uint64(s.Rdev)
	return stat{
		inode: inode{uint64(s.Dev), s.Ino}, nlink: uint64(s.Nlink), mode: int64(s.Mode & 0o7777), uid: s.Uid, gid: s.Gid,
		major: int64(unix.Major(rdev)), minor: int64(unix.Minor(rdev)), rdev: rdev,
	}
}

// isWhiteout: overlayfs marks a deleted name by a character device 0:0.
func (s stat) isWhiteout(info fs.FileInfo) bool {
	return info.Mode()&fs.ModeCharDevice != 0 && s.rdev == 0
}

// xattrs are a file's extended attributes, without those that are overlayfs' own.
type xattrs struct {
	records map[string]string // as PAX records
	opaque  bool
}

// The marks of overlayfs in an upper directory, behind their prefix
// (fs/overlayfs/overlayfs.h). Those not named here say nothing about the contents.
const (
	markOpaque   = "opaque"
	markRedirect = "redirect"
	markMetacopy = "metacopy"
)

func (t *writer) xattrs(name string) (x xattrs, err error) {
	names, get, done, err := t.top.attributes(name)
	if err != nil {
		return x, err
	}
	defer done()
	own := "trusted.overlay."
	if t.opts.UserXattrs {
		own = "user.overlay."
	}
	for _, attr := range names {
		mark, ours := strings.CutPrefix(attr, own)
		if ours && mark != markOpaque && mark != markRedirect && mark != markMetacopy {
			continue
		}
		value, err := get(attr)
		if err != nil {
			return x, fmt.Errorf("extended attribute %s: %w", attr, err)
		}
		switch {
		case !ours:
			if x.records == nil {
				x.records = map[string]string{}
			}
			x.records["SCHILY.xattr."+attr] = t.opts.inside(attr, value)
		case mark == markOpaque:
			x.opaque = value == "y"
		case mark == markRedirect:
			return x, precondition("the directory was renamed and its contents lie in a lower layer (overlayfs redirect_dir): mount overlayfs with redirect_dir=off")
		case mark == markMetacopy:
			return x, precondition("its data lies in a lower layer (overlayfs metacopy): mount overlayfs with metacopy=off")
		}
	}
	return x, nil
}

// top is the upper directory as a descriptor, below which names are looked up without
// following links: who fills it may be hostile, and need not be paused.
type top int

func openTop(dir string) (top, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	return top(fd), nil
}

func (d top) Close() error { return unix.Close(int(d)) }

// attributes lists a file's extended attributes and reads them. done must be called.
func (d top) attributes(name string) (names []string, get func(string) (string, error), done func(), err error) {
	fd, err := unix.Openat2(int(d), name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return nil, nil, nil, err
	}
	done = func() { unix.Close(fd) }
	// A descriptor of O_PATH has no fgetxattr; its name in /proc stands for the file
	// itself, symbolic links too.
	self := "/proc/self/fd/" + strconv.Itoa(fd)
	raw, err := sized(func(b []byte) (int, error) { return unix.Listxattr(self, b) })
	if err != nil {
		done()
		return nil, nil, nil, fmt.Errorf("extended attributes: %w", err)
	}
	names = strings.FieldsFunc(raw, func(r rune) bool { return r == 0 })
	slices.Sort(names)
	get = func(attr string) (string, error) {
		return sized(func(b []byte) (int, error) { return unix.Getxattr(self, attr, b) })
	}
	return names, get, done, nil
}

// sized calls f with a buffer that is large enough. A file system without attributes
// has none.
func sized(f func([]byte) (int, error)) (string, error) {
	for {
		n, err := f(nil)
		if n <= 0 || err != nil {
			if errors.Is(err, unix.ENOTSUP) {
				err = nil
			}
			return "", err
		}
		b := make([]byte, n)
		if n, err = f(b); !errors.Is(err, unix.ERANGE) { // it grew
			return string(b[:max(n, 0)]), err
		}
	}
}
