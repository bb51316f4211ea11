//go:build !linux

package restore

import "github.com/containerd/errdefs"

func (Mount) bind(string) error { return errdefs.ErrNotImplemented }

func unmountBelow(string) error { return errdefs.ErrNotImplemented }

func unmount(string) error { return errdefs.ErrNotImplemented }
