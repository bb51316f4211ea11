//go:build !linux

package stack

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
)

// Upper is where overlayfs keeps what a container has changed.
type Upper struct {
	Dir        string
	UserXattrs bool
	Owner      func(uid, gid uint32) (uint32, uint32)
}

// Upper is for Linux: containerd's block CIM and CIM snapshotters cannot compare
// (2.4.2: Compare is ErrNotImplemented), and what they keep is no directory.
func (c *Container) Upper(context.Context) (Upper, error) {
	return Upper{}, fmt.Errorf("commit of container %s on this system: %w", c.ID(), errdefs.ErrNotImplemented)
}
