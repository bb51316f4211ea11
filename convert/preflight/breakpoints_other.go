//go:build !(linux && amd64)

package preflight

import "github.com/containerd/errdefs"

// Breakpoints says nothing here: an errdefs.ErrNotImplemented.
func Breakpoints() error { return errdefs.ErrNotImplemented }
