//go:build !linux

package stack

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
)

// RunGuard is for Linux.
func RunGuard() {}

// Freeze is for Linux.
func (c *Container) Freeze(context.Context) (thaw func() error, err error) {
	return nil, fmt.Errorf("pause container %s on this system: %w", c.ID(), errdefs.ErrNotImplemented)
}

// Thaw is for Linux: elsewhere nothing was paused.
func Thaw(context.Context, string) ([]string, error) { return nil, nil }
