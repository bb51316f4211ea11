//go:build !linux

package restore

import "github.com/containerd/errdefs"

func rename(*held, string) error { return errdefs.ErrNotImplemented }

func loopback(*held) error { return errdefs.ErrNotImplemented }
