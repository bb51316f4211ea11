//go:build !linux

package archive

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
)

// ThisHost finds out about this machine.
func ThisHost(context.Context) (Host, error) {
	return Host{}, fmt.Errorf("CRIU is Linux's: %w", errdefs.ErrNotImplemented)
}
