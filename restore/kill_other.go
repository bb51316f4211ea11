//go:build !linux

package restore

import (
	"context"

	"github.com/containerd/errdefs"
)

func killRestore(context.Context, string, string) error { return errdefs.ErrNotImplemented }
