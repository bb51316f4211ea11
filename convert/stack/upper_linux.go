package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Upper is where overlayfs keeps what a container has changed.
type Upper struct {
	Dir string
	// UserXattrs says that overlayfs was mounted with userxattr.
	UserXattrs bool
	// Owner says whose a file of Dir is to the container; nil: whose it is.
	Owner func(uid, gid uint32) (uint32, uint32)
}

// Upper finds the container's upper directory. Of one that runs it is that of its own
// mount, which is right whatever the snapshotter calls its mounts: the erofs
// snapshotter's block mode keeps it in a file system of its own, which containerd's
// differs (2.4.2) overlook. Of one that does not it is what the snapshotter says.
//
// What is no overlayfs, or lies in a file system that is not mounted, is an
// errdefs.ErrFailedPrecondition.
func (c *Container) Upper(ctx context.Context) (Upper, error) {
	up, err := c.upper(ctx)
	if err != nil {
		return up, fmt.Errorf("container %s: %w", c.ID(), err)
	}
	up.Owner, err = c.owner(ctx)
	return up, err
}

func (c *Container) upper(ctx context.Context) (Upper, error) {
	pid, err := c.runs(ctx)
	if err != nil {
		return Upper{}, err
	}
	if pid != 0 {
		up, err := upperOf(pid)
		// The number may be another process's by now.
		if now, rerr := c.runs(ctx); rerr != nil || now == pid {
			return up, errors.Join(err, rerr)
		}
	}
	mounts, err := c.daemon.client.SnapshotService(c.info.Snapshotter).Mounts(ctx, c.info.SnapshotKey)
	if err != nil {
		return Upper{}, fmt.Errorf("mounts: %w", err)
	}
	return upperIn(mounts)
}

// runs gives the container's first process; 0 if there is none any more.
func (c *Container) runs(ctx context.Context) (pid int, err error) {
	task, err := c.Task(ctx, nil)
	if errdefs.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("task: %w", err)
	}
	status, err := task.Status(ctx)
	switch {
	case errdefs.IsNotFound(err) || err == nil && status.Status == client.Stopped:
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("status: %w", err)
	}
	return int(task.Pid()), nil
}

// owner reads the maps of the container's user namespace: in the upper directory files
// have the owners that they have outside of it, whether the layers below were mounted
// with the maps or copied.
func (c *Container) owner(ctx context.Context) (func(uid, gid uint32) (uint32, uint32), error) {
	spec, err := c.Spec(ctx)
	if err != nil {
		return nil, fmt.Errorf("spec of container %s: %w", c.ID(), err)
	}
	if spec.Linux == nil || len(spec.Linux.UIDMappings)+len(spec.Linux.GIDMappings) == 0 {
		return nil, nil
	}
	uids, gids := spec.Linux.UIDMappings, spec.Linux.GIDMappings
	return func(uid, gid uint32) (uint32, uint32) { return inside(uids, uid), inside(gids, gid) }, nil
}

// inside is what the container calls id. What it has no name for stays: it belongs to
// a layer that nobody has mapped.
func inside(maps []specs.LinuxIDMapping, id uint32) uint32 {
	for _, m := range maps {
		if id >= m.HostID && id-m.HostID < m.Size {
			return m.ContainerID + id - m.HostID
		}
	}
	return id
}

// upperOf finds the upper directory of a process's root mount. The process may be
// hostile and have mounted there what it likes, with paths that mean something else here.
// So it only says which mount it is, and its parent, which is containerd's shim and made
// the container's root, says of what.
func upperOf(pid int) (Upper, error) {
	roots, err := mountsOf(pid, mountinfo.SingleEntryFilter("/"))
	if err != nil {
		return Upper{}, err
	}
	if len(roots) == 0 {
		return Upper{}, fmt.Errorf("process %d has no root mount: %w", pid, errdefs.ErrFailedPrecondition)
	}
	root := roots[len(roots)-1] // it covers those before it
	if root.FSType != "overlay" {
		return Upper{}, fmt.Errorf("the container's root is of type %s and no overlayfs: %w", root.FSType, errdefs.ErrFailedPrecondition)
	}
	shim, err := ParentPID(pid)
	if err != nil {
		return Upper{}, err
	}
	made, err := mountsOf(shim, func(m *mountinfo.Info) (skip, stop bool) {
		return m.FSType != root.FSType || m.Major != root.Major || m.Minor != root.Minor, false
	})
	if err != nil {
		return Upper{}, err
	}
	if len(made) == 0 {
		return Upper{}, fmt.Errorf("the container's root is a mount of its own making, and none of containerd's: %w", errdefs.ErrFailedPrecondition)
	}
	if up, ok := upperOption(strings.Split(made[0].VFSOptions, ",")); ok {
		return up, nil
	}
	return Upper{}, errReadOnly
}

// mountsOf reads proc_pid_mountinfo(5).
func mountsOf(pid int, filter mountinfo.FilterFunc) ([]*mountinfo.Info, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return nil, fmt.Errorf("mounts of process %d: %w", pid, err)
	}
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, filter)
	if err != nil {
		return nil, fmt.Errorf("mounts of process %d: %w", pid, err)
	}
	return mounts, nil
}

// ParentPID is the process whose child pid is. It reads proc_pid_stat(5), in which a name
// in parentheses may hold anything.
func ParentPID(pid int) (parent int, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err == nil {
		_, err = fmt.Sscanf(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " %1s %d", new(string), &parent)
	}
	if err != nil {
		return 0, fmt.Errorf("parent of process %d: %w", pid, err)
	}
	return parent, nil
}

var errReadOnly = fmt.Errorf("the container's root is read-only, there is nothing to commit: %w", errdefs.ErrFailedPrecondition)

// upperIn reads what a snapshotter says, whose last mount is the container's root.
func upperIn(mounts []mount.Mount) (Upper, error) {
	if len(mounts) == 0 {
		return Upper{}, errors.New("the snapshotter names no mount")
	}
	last := mounts[len(mounts)-1]
	switch _, fs := cut(last.Type); {
	case fs == "bind" && !slices.Contains(last.Options, "ro"): // no layer below
		return Upper{Dir: last.Source}, nil
	case fs != "overlay":
		return Upper{}, fmt.Errorf("its root is of type %s and no overlayfs: %w", last.Type, errdefs.ErrFailedPrecondition)
	}
	up, ok := upperOption(last.Options)
	switch {
	case !ok:
		return Upper{}, errReadOnly
	case strings.Contains(up.Dir, "{{"): // a template of containerd's mount manager
		return Upper{}, fmt.Errorf("its upper directory lies in a file system that is mounted while the container runs only: start it: %w", errdefs.ErrFailedPrecondition)
	}
	return up, nil
}

// cut splits a type of containerd's mount manager, as format/mkdir/overlay.
func cut(fstype string) (how, fs string) {
	i := strings.LastIndexByte(fstype, '/')
	return fstype[:max(i, 0)], fstype[i+1:]
}

func upperOption(options []string) (up Upper, ok bool) {
	for _, o := range options {
		if dir, is := strings.CutPrefix(o, "upperdir="); is {
			up.Dir, ok = dir, true
		}
		up.UserXattrs = up.UserXattrs || o == "userxattr"
	}
	return up, ok
}
