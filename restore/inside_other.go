//go:build !linux

package restore

import "github.com/containerd/errdefs"

type file struct {
	name     string
	mode     uint32
	uid, gid int
	content  []byte
}

func (*held) owner() (uid, gid int, err error) { return 0, 0, errdefs.ErrNotImplemented }

func (*held) write([]file) error { return errdefs.ErrNotImplemented }
