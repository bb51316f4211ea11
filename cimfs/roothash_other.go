//go:build !windows

package cimfs

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
)

// RootHash is what a block is sealed with, as [Block] has it. Where no library reads that, it is
// an errdefs.ErrNotImplemented.
func RootHash(context.Context, string) (string, error) {
	return "", fmt.Errorf("reading a root hash, elsewhere than on Windows: %w", errdefs.ErrNotImplemented)
}
