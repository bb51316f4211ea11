package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/transfer"
	timage "github.com/containerd/containerd/v2/core/transfer/image"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/google/uuid"
	"github.com/opencontainers/image-spec/identity"
)

// expireLabel on an image makes it no root of the garbage collection.
const expireLabel = "containerd.io/gc.expire"

// Lease gives a context whose calls keep what they bring here until release is called,
// which then removes what no other lease has.
func (s *Stack) Lease(ctx context.Context) (leased context.Context, release func() error, err error) {
	ctx = within(ctx)
	l, err := s.leases.Create(ctx, leases.WithRandomID())
	if err != nil {
		return nil, nil, fmt.Errorf("create lease: %w", err)
	}
	release = func() error {
		ctx := context.WithoutCancel(ctx)
		return errors.Join(s.leases.Delete(ctx, l), s.collect(ctx))
	}
	return leases.WithLease(ctx, l.ID), release, nil
}

// Content is what has been pulled.
func (s *Stack) Content() content.Store { return s.db.ContentStore() }

// notOn is why a snapshotter is missing that is another system's.
func notOn(snapshotter string) error {
	return fmt.Errorf("%s on %s: %w", snapshotter, runtime.GOOS, errdefs.ErrNotImplemented)
}

// has says why there is no such snapshotter.
func (s *Stack) has(snapshotter string) error {
	if err, ok := s.missing[snapshotter]; ok {
		return fmt.Errorf("snapshotter %s cannot be used here: %w", snapshotter, err)
	}
	return nil
}

// Pull brings the image that src resolves to here under a name, which then names nothing
// else, and unpacks it for a snapshotter; "" does not unpack. ctx is of a lease. Layers that containerd does not
// know are an errdefs.ErrNotImplemented.
func (s *Stack) Pull(ctx context.Context, src transfer.ImageFetcher, name, snapshotter string) error {
	opts := []timage.StoreOpt{timage.WithImageLabels(map[string]string{expireLabel: time.Unix(0, 0).UTC().Format(time.RFC3339)})}
	if snapshotter != "" {
		if err := s.has(snapshotter); err != nil {
			return err
		}
		opts = append(opts, timage.WithUnpack(platforms.DefaultSpec(), snapshotter))
	}
	if err := s.Transfer(within(ctx), src, timage.NewStore(name, opts...)); err != nil {
		return fmt.Errorf("pull %s: %w", name, err)
	}
	if snapshotter == "" {
		return nil
	}
	return s.unpacked(within(ctx), name, snapshotter)
}

// unpacked is nil if the image has been unpacked: containerd passes over one whose layers
// it does not know.
func (s *Stack) unpacked(ctx context.Context, name, snapshotter string) error {
	chain, err := s.chain(ctx, name)
	if err != nil {
		return err
	}
	if _, err := s.db.Snapshotter(snapshotter).Stat(ctx, chain); errdefs.IsNotFound(err) {
		return fmt.Errorf("unpack %s: this containerd does not know the media types of its layers: %w", name, errdefs.ErrNotImplemented)
	} else if err != nil {
		return err
	}
	return nil
}

// Mount mounts an image that Pull unpacked for a snapshotter, read-only. unmount ends
// that; ctx is of a lease. Block CIMs are mounted by a container's runtime alone, which is an
// errdefs.ErrNotImplemented.
func (s *Stack) Mount(ctx context.Context, name, snapshotter string) (dir string, unmount func() error, err error) {
	if err := s.has(snapshotter); err != nil {
		return "", nil, err
	}
	if snapshotter == BlockCIM {
		return "", nil, fmt.Errorf("mount %s: only the runtime of a container mounts block CIMs: %w", name, errdefs.ErrNotImplemented)
	}
	ctx = within(ctx)
	chain, err := s.chain(ctx, name)
	if err != nil {
		return "", nil, fmt.Errorf("mount %s: %w", name, err)
	}
	v := &view{stack: s, sn: s.db.Snapshotter(snapshotter), key: "view-" + uuid.NewString()}
	v.dir = s.at("views/" + v.key)
	if err := v.mount(ctx, chain); err != nil {
		return "", nil, errors.Join(fmt.Errorf("mount %s: %w", name, err), v.unmount(ctx))
	}
	return v.dir, func() error { return v.unmount(ctx) }, nil
}

// chain is the name of an image's topmost snapshot.
func (s *Stack) chain(ctx context.Context, name string) (string, error) {
	img, err := s.images.Get(ctx, name)
	if err != nil {
		return "", err
	}
	cs := s.Content()
	m, err := images.Manifest(ctx, cs, img.Target, platforms.All)
	if err != nil {
		return "", err
	}
	ids, err := images.RootFS(ctx, cs, m.Config)
	return identity.ChainID(ids).String(), err
}

// view is a mounted image.
type view struct {
	stack *Stack
	sn    snapshots.Snapshotter
	key   string // of snapshot and activation
	dir   string
	// undo is what mount has done so far.
	undo []func(context.Context) error
}

func (v *view) mount(ctx context.Context, parent string) error {
	mounts, err := v.sn.View(ctx, v.key, parent)
	if err != nil {
		return err
	}
	v.undo = append(v.undo, func(ctx context.Context) error { return v.sn.Remove(ctx, v.key) })
	// Temporary: what is left for us to do is at most a bind mount. Else a single EROFS
	// layer would be mounted elsewhere, and nothing here.
	active, err := v.stack.mounts.Activate(ctx, v.key, mounts, mount.WithTemporary)
	switch {
	case errdefs.IsNotImplemented(err): // there is nothing for it to do
		active.System = mounts
	case err != nil:
		return err
	default:
		v.undo = append(v.undo, func(ctx context.Context) error { return v.stack.mounts.Deactivate(ctx, v.key) })
	}
	if err := os.Mkdir(v.dir, 0o700); err != nil {
		return err
	}
	v.undo = append(v.undo, func(context.Context) error { return errors.Join(mount.UnmountAll(v.dir, 0), os.Remove(v.dir)) })
	return mount.All(active.System, v.dir)
}

// unmount takes back what mount has done, also half of it.
func (v *view) unmount(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for len(v.undo) > 0 {
		last := len(v.undo) - 1
		errs = append(errs, v.undo[last](ctx))
		v.undo = v.undo[:last]
	}
	return errors.Join(errs...)
}
