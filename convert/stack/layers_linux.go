package stack

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/mount/manager"
	"github.com/containerd/containerd/v2/core/snapshots"
	diffs "github.com/containerd/containerd/v2/plugins/diff/erofs"
	mounts "github.com/containerd/containerd/v2/plugins/mount/erofs"
	"github.com/containerd/containerd/v2/plugins/snapshots/erofs"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/lithify/lithify/convert/preflight"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// snapshotters are those that this host can run. Each is tried before it is made: some
// of what containerd's do where they cannot run is to fail later.
func (s *Stack) snapshotters(ctx context.Context) (map[string]snapshots.Snapshotter, error) {
	made := map[string]snapshots.Snapshotter{}
	for _, sn := range []struct {
		name string
		can  func() error
		open func(root string) (snapshots.Snapshotter, error)
	}{
		{Overlayfs, func() error { return preflight.Overlay(s.root) }, func(root string) (snapshots.Snapshotter, error) { return overlay.NewSnapshotter(root) }},
		{EROFS, func() error { _, err := preflight.EROFS(ctx, s.root); return err }, func(root string) (snapshots.Snapshotter, error) { return erofs.NewSnapshotter(root) }},
	} {
		if err := sn.can(); err != nil {
			s.missing[sn.name] = err
			s.log.WarnContext(ctx, "snapshotter left out", "snapshotter", sn.name, "error", err)
			continue
		}
		opened, err := sn.open(s.at(sn.name))
		if err != nil {
			return made, fmt.Errorf("snapshotter %s: %w", sn.name, err)
		}
		made[sn.name] = opened
	}
	return made, nil
}

// applier is the differ that a snapshotter's layers are unpacked by. overlayfs has the
// one that containerd calls walking.
func applier(snapshotter string, cs content.Store) diff.Applier {
	if snapshotter == EROFS {
		return diffs.NewErofsDiffer(cs)
	}
	return apply.NewFileSystemApplier(cs)
}

func mountHandlers() []manager.Opt {
	return []manager.Opt{manager.WithMountHandler("erofs", mounts.NewErofsMountHandler())}
}

// unmountAll unmounts whatever is mounted below root: it is ours, or of a process that died.
func (s *Stack) unmountAll() error {
	left, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return !strings.HasPrefix(m.Mountpoint, s.root+"/"), false })
	if err != nil {
		return err
	}
	var errs []error
	for i := len(left) - 1; i >= 0; i-- { // the last one first: it may lie on another
		if err := mount.UnmountAll(left[i].Mountpoint, unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", left[i].Mountpoint, err))
		}
	}
	return errors.Join(errs...)
}
