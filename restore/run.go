package restore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/restore/archive"
)

// state is the directory that the container has of ours: its log, and CRIU's.
func (r *run) state() string {
	return filepath.Join(r.opts.Root, "containers", r.daemon.Namespace(), r.opts.Name)
}

func (r *run) logFile() string { return filepath.Join(r.state(), "container.log") }

// work is CRIU's directory, and restoreLog what runc has it write there.
func (r *run) work() string       { return filepath.Join(r.state(), "work") }
func (r *run) restoreLog() string { return filepath.Join(r.work(), "restore.log") }

// restore does all of it. What a step has made it takes back if one after it fails, the
// last first.
func (r *run) restore(ctx context.Context) (_ *Result, err error) {
	ctx, done, err := r.daemon.Client().WithLease(ctx)
	if err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	var back []func(context.Context) error
	defer func() {
		bounded := func(step func(context.Context) error) error {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
			defer cancel()
			return step(ctx)
		}
		for i := len(back) - 1; err != nil && i >= 0; i-- {
			err = errors.Join(err, bounded(back[i]))
		}
		// Of a container that runs the lease is no matter: it ends by itself.
		if derr := bounded(done); err != nil {
			err = errors.Join(err, derr)
		}
	}()

	here, err := archive.ThisHost(ctx)
	if err != nil {
		return nil, err
	}
	if err := canRestore(here, r.img.Checkpoint.Host); err != nil { // before a byte of it is here
		return nil, err
	}
	cp, err := r.checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cp.release()) }()
	if err := errors.Join(canRestore(here, cp.Host), r.agrees(cp.was)); err != nil {
		return nil, err
	}
	if cp.shared, err = archive.ReadShared(cp.dir, cp.was); err != nil {
		return nil, err
	}
	if err := r.connects(ctx, cp); err != nil {
		return nil, err
	}
	img, err := r.base(ctx, cp)
	if err != nil {
		return nil, err
	}
	c, err := r.create(ctx, img, cp)
	if err != nil {
		return nil, err
	}
	back = append(back, func(ctx context.Context) error { return c.Delete(ctx, client.WithSnapshotCleanup) })
	rights, err := r.bounded(ctx, c, cp)
	if err != nil {
		return nil, err
	}
	if err := r.apply(ctx, c, cp, rights); err != nil {
		return nil, err
	}
	back = append(back, func(context.Context) error { return r.clear() })
	if r.opts.Network == CNINetwork {
		back = append(back, r.disconnect)
		if err := r.connect(ctx, cp); err != nil {
			return nil, err
		}
	}
	var task client.Task
	err = r.quietly("CRIU restores", func() (err error) { task, err = r.start(ctx, c, cp); return err })
	if err != nil {
		return nil, err
	}
	back = append(back, func(ctx context.Context) error { return r.endTask(ctx, task) })
	if err := r.quietly("the container is refreshed", func() error { return r.refresh(ctx, c, task) }); err != nil {
		return nil, err
	}
	if err := r.check(ctx, c, task); err != nil {
		return nil, err
	}
	if _, err := c.SetLabels(ctx, map[string]string{labelUse: useRunning}); err != nil {
		return nil, fmt.Errorf("label container %s: %w", c.ID(), err)
	}
	res, err := r.result(ctx, c, task)
	if err != nil {
		return nil, err
	}
	res.Cached, res.Took, res.Shared = cp.cached, r.took, cp.shared.Head()
	if r.local != nil {
		res.Local = r.local.away.Error()
	}
	if r.opts.Hostname != "" {
		res.Shared.Hostname = ""
	}
	return res, nil
}

// bounded refuses processes that could do more than the container: CRIU gives back to them
// what they had, and asks no spec.
func (r *run) bounded(ctx context.Context, c client.Container, cp *checkpoint) (*archive.Rights, error) {
	spec, err := c.Spec(ctx)
	if err != nil {
		return nil, fmt.Errorf("spec of container %s: %w", c.ID(), err)
	}
	rights, err := archive.ReadRights(ctx, cp.dir)
	if err != nil {
		return nil, err
	}
	if why := rights.Beyond(spec); len(why) > 0 {
		return nil, fmt.Errorf("the checkpoint's processes have rights that the container has not: %s: %w", strings.Join(why, "; "), errdefs.ErrFailedPrecondition)
	}
	return rights, nil
}

// create makes the container and its snapshot.
func (r *run) create(ctx context.Context, img client.Image, cp *checkpoint) (client.Container, error) {
	labels := map[string]string{labelUse: useHalf, labelCheckpoint: r.img.Descriptor.Digest.String(), labelRoot: r.opts.Root}
	if r.opts.Job != "" {
		labels[labelJob] = r.opts.Job
	}
	// A name of our own, so that none is taken by another: one that nothing refers to
	// goes with the lease.
	snapshot := r.opts.Name + "-" + rand.Text()
	c, err := r.daemon.Client().NewContainer(ctx, r.opts.Name,
		client.WithImage(img),
		client.WithSnapshotter(r.opts.Snapshotter),
		client.WithNewSnapshot(snapshot, img),
		client.WithNewSpec(r.spec(img, cp)),
		client.WithContainerLabels(labels))
	if err != nil {
		return nil, fmt.Errorf("make container %s: %w", r.opts.Name, err)
	}
	return c, nil
}

// apply puts what the container had changed into its mounted root. The applier of
// containerd's erofs snapshotter (2.4.2) would write a layer that nothing mounts.
func (r *run) apply(ctx context.Context, c client.Container, cp *checkpoint, rights *archive.Rights) (err error) {
	info, err := c.Info(ctx, client.WithoutRefreshedMetadata)
	if err != nil {
		return fmt.Errorf("container %s: %w", c.ID(), err)
	}
	mounts, err := r.daemon.Client().SnapshotService(r.opts.Snapshotter).Mounts(ctx, info.SnapshotKey)
	if err != nil {
		return fmt.Errorf("mounts of container %s: %w", c.ID(), err)
	}
	mounts, deactivate, err := r.activate(ctx, mounts)
	if err != nil {
		return fmt.Errorf("mounts of container %s: %w", c.ID(), err)
	}
	defer func() { err = errors.Join(err, deactivate()) }()
	apply := func(root string) error {
		if err := cp.applyTo(ctx, root); err != nil {
			return err
		}
		return rights.CheckGhosts(root)
	}
	if err := mount.WithTempMount(ctx, mounts, apply); err != nil {
		return fmt.Errorf("files of container %s: %w", c.ID(), err)
	}
	return nil
}

// activate has containerd mount what this process cannot: the erofs snapshotter's layers.
func (r *run) activate(ctx context.Context, mounts []mount.Mount) (active []mount.Mount, deactivate func() error, err error) {
	m := r.daemon.Client().MountManager()
	name := "lithify-restore-" + rand.Text()
	info, err := m.Activate(ctx, name, mounts, mount.WithTemporary)
	if errdefs.IsNotImplemented(err) { // they can be mounted as they are
		return mounts, func() error { return nil }, nil
	}
	return info.System, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		err := m.Deactivate(ctx, name)
		// containerd 2.4.2's garbage collector may be at the same mounts, and what one
		// has unmounted the other does not find. Off its list they are its to unmount.
		if _, ierr := m.Info(ctx, name); errdefs.IsNotFound(ierr) {
			return nil
		}
		return err
	}, err
}
