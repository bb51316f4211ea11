//go:build !linux

package convert

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// lockCache ends an export before it begins: a temporary file of Windows cannot get another name.
func lockCache(dir string) (unlock func() error, err error) {
	return nil, fmt.Errorf("export layers to %s: it takes Linux: %w", dir, errdefs.ErrNotImplemented)
}

func (s *Scratch) link(string) error { return errdefs.ErrNotImplemented }
func syncDir(string) error           { return errdefs.ErrNotImplemented }
