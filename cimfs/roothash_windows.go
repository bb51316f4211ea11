package cimfs

import (
	"context"
	"fmt"

	"github.com/Microsoft/hcsshim/pkg/ociwclayer/cim"
	"github.com/containerd/errdefs"
)

// RootHash is what a block is sealed with, as [Block] has it. Where no library reads that, it is
// an errdefs.ErrNotImplemented.
func RootHash(ctx context.Context, file string) (string, error) {
	if _, err := Library(); err != nil {
		return "", fmt.Errorf("reading a root hash: %w: %w", err, errdefs.ErrNotImplemented)
	}
	return cim.GetIntegrityChecksum(ctx, file, "")
}
