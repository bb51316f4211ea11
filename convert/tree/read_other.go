//go:build !linux

package tree

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
)

// Read is for Linux.
func Read(_ context.Context, root string) (Tree, error) {
	return nil, fmt.Errorf("read the tree %s on this system: %w", root, errdefs.ErrNotImplemented)
}
