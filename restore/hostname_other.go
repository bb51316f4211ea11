//go:build !linux

package restore

import "github.com/containerd/errdefs"

func rename(uint32, string) error { return errdefs.ErrNotImplemented }
