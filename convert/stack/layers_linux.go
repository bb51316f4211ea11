package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
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
	s.missing[BlockCIM] = notOn(BlockCIM)
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
func applier(snapshotter string, cs content.Store) (diff.Applier, error) {
	if snapshotter == EROFS {
		return diffs.NewErofsDiffer(cs), nil
	}
	return apply.NewFileSystemApplier(cs), nil
}

// layerTypes are media types of layers besides those that containerd knows.
var layerTypes []string

func mountHandlers() []manager.Opt {
	return []manager.Opt{manager.WithMountHandler("erofs", mounts.NewErofsMountHandler())}
}

// unmountAll unmounts what a stack has mounted: it is ours, or of a process that died.
func (s *Stack) unmountAll() error {
	left, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return !slices.ContainsFunc(mounting, func(dir string) bool { return strings.HasPrefix(m.Mountpoint, s.at(dir)+"/") }), false
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range slices.Backward(left) { // the last one first: it may lie on another
		if err := mount.UnmountAll(m.Mountpoint, unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", m.Mountpoint, err))
		}
	}
	return errors.Join(errs...)
}

// ours reports whether dir is this user's directory: in $TMPDIR others may make what they like.
func ours(dir string) bool {
	var st unix.Stat_t
	err := unix.Lstat(dir, &st)
	return err == nil && st.Mode == unix.S_IFDIR|0o700 && int(st.Uid) == os.Geteuid()
}
