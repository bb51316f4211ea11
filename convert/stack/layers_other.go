//go:build !linux

package stack

import (
	"context"
	"fmt"
	"runtime"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/mount/manager"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
)

// snapshotters are none yet: those of Windows, with their differs, wait for block CIMs.
func (s *Stack) snapshotters(context.Context) (map[string]snapshots.Snapshotter, error) {
	for _, name := range []string{Overlayfs, EROFS} {
		s.missing[name] = fmt.Errorf("on %s: %w", runtime.GOOS, errdefs.ErrNotImplemented)
	}
	return nil, nil
}

func applier(string, content.Store) diff.Applier { return nil } // of no snapshotter

func mountHandlers() []manager.Opt { return nil }

func (s *Stack) unmountAll() error { return nil }

// Abandoned is for Linux: elsewhere a stack mounts nothing.
func Abandoned(string) bool { return false }
