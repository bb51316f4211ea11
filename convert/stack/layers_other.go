//go:build !linux && !windows

package stack

import (
	"context"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/mount/manager"
	"github.com/containerd/containerd/v2/core/snapshots"
)

// snapshotters are none.
func (s *Stack) snapshotters(context.Context) (map[string]snapshots.Snapshotter, error) {
	for _, name := range []string{Overlayfs, EROFS, BlockCIM} {
		s.missing[name] = notOn(name)
	}
	return nil, nil
}

func applier(string, content.Store) (diff.Applier, error) { return nil, nil } // of no snapshotter

var layerTypes []string

func mountHandlers() []manager.Opt { return nil }

func (s *Stack) unmountAll() error { return nil }

func ours(string) bool { return false } // a stack is of no use here
