//go:build !linux

package upper

import (
	"fmt"
	"io/fs"

	"github.com/containerd/errdefs"
)

// overlayfs is Linux's: nothing here is ever called after openTop.
type (
	top    struct{}
	xattrs struct {
		records map[string]string
		opaque  bool
	}
	stat struct {
		inode
		nlink        uint64
		mode         int64
		uid, gid     uint32
		major, minor int64
	}
)

func openTop(dir string) (top, error) {
	return top{}, fmt.Errorf("upper directory %s: overlayfs is Linux's: %w", dir, errdefs.ErrNotImplemented)
}

func (top) Close() error { return nil }

func statOf(fs.FileInfo) stat { return stat{} }

func (stat) isWhiteout(fs.FileInfo) bool { return false }

func (*writer) xattrs(string) (xattrs, error) { return xattrs{}, errdefs.ErrNotImplemented }
