//go:build !linux

package preflight

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
)

// ConfigOf needs Linux.
func ConfigOf(context.Context, string) (string, error) {
	return "", fmt.Errorf("where containerd has its configuration: %w", errdefs.ErrNotImplemented)
}
