package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
	checkpoints "github.com/lithify/lithify/restore/archive"
	"github.com/lithify/lithify/restore/pages"
)

// checkpoint is one that has been unpacked here, until it is released.
type checkpoint struct {
	*checkpoints.Checkpoint
	was     *checkpoints.Derived // the container that was dumped
	shared  *checkpoints.Shared
	dir     string
	cached  bool
	release func() error
}

// images is the directory that CRIU restores from.
func (cp *checkpoint) images() string { return filepath.Join(cp.dir, checkpoints.ImagesDir) }

// checkpoint unpacks and validates the checkpoint, or finds that this was done.
func (r *run) checkpoint(ctx context.Context) (*checkpoint, error) {
	if err := r.readable(ctx); err != nil {
		return nil, err
	}
	cp := &checkpoint{cached: true}
	var err error
	cp.dir, cp.release, err = r.cache().get(ctx, r.unpacked(), func(dir string) error {
		cp.cached = false
		return r.unpack(ctx, dir)
	})
	if err != nil {
		return nil, fmt.Errorf("unpack checkpoint %s: %w", r.img.Name, err)
	}
	if !cp.cached {
		err = r.cache().trim(r.opts.Cache)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("remove old checkpoints: %w", err), cp.release())
	}
	if r.local != nil {
		err = r.local.check(ctx, cp.dir)
	} else {
		err = r.keep(ctx, cp.dir)
	}
	if err != nil {
		return nil, errors.Join(err, cp.release())
	}
	if cp.Checkpoint, err = checkpoints.Open(cp.dir, checkpoints.Limits{}); err == nil {
		cp.was, err = checkpoints.Derive(cp.Spec)
	}
	if err != nil {
		return nil, errors.Join(err, cp.release())
	}
	return cp, nil
}

// unpacked names the checkpoint in the cache. A registry's word that it has a layer is enough to
// be given what came from there, and no other's, which says what its owner likes.
func (r *run) unpacked() digest.Digest {
	from := cmp.Or(convert.RegistryOf(r.img.Name), r.img.Name)
	return digest.FromString(from + "/" + r.img.Unpacked().String())
}

func (r *run) cache() cache { return r.opts.cache() }

func (o Options) cache() cache { return cache{filepath.Join(o.Root, "checkpoints")} }

func (r *run) unpack(ctx context.Context, dir string) (err error) {
	if r.local != nil {
		return fmt.Errorf("%w; a local copy is not restored: it was removed", r.local.away)
	}
	ctx, span := tracer.Start(ctx, "unpack checkpoint")
	defer span.End()
	if err := room(dir, r.img.Layer.Size); err != nil { // and mostly more: it is compressed
		return err
	}
	layer, err := r.img.Archive(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, layer.Close()) }()
	if _, err := checkpoints.Read(ctx, heard{layer, r.opts.Alive}, dir, checkpoints.Limits{}); err != nil {
		return err
	}
	if len(r.img.Packs) > 0 {
		if err := r.join(ctx, dir); err != nil {
			return err
		}
	}
	_, err = checkpoints.Validate(dir)
	return err
}

// join fetches what of the memory no other checkpoint in the cache has.
func (r *run) join(ctx context.Context, dir string) (err error) {
	src := r.img.Pages()
	if src == nil {
		return fmt.Errorf("%s has its memory in packs, which can be read from a registry or a layout only: %w", r.img.Name, errdefs.ErrNotImplemented)
	}
	index, err := pages.Load(dir, checkpoints.Limits{})
	if err != nil {
		return err
	}
	for _, p := range index.Packs { // the registry gives what the manifest names
		if !slices.ContainsFunc(r.img.Packs, func(d ocispec.Descriptor) bool { return d.Digest == p.Digest && d.Size == p.Size }) {
			return fmt.Errorf("the index names the pack %s, and the manifest does not: %w", p.Digest, errdefs.ErrInvalidArgument)
		}
	}
	local, release, err := r.cache().borrow()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	_, err = index.Join(ctx, dir, heardPages{src, r.opts.Alive}, local...)
	return err
}

// applyTo puts what the container had changed into its root.
func (cp *checkpoint) applyTo(ctx context.Context, root string) (err error) {
	layer := cp.Changes(ctx, cp.dir, checkpoints.Limits{})
	defer func() { err = errors.Join(err, layer.Close()) }()
	if _, err := archive.Apply(ctx, root, layer); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, layer)
	return err
}

// canRestore refuses what this machine cannot go on with that was dumped on another.
func canRestore(here, from checkpoints.Host) error {
	if here.CRIU == "" {
		return fmt.Errorf("there is no criu on this machine: install it where containerd's runtime finds it, too: %w", errdefs.ErrFailedPrecondition)
	}
	var why []string
	for _, r := range here.CanRestore(from) {
		why = append(why, r.String())
	}
	if len(why) > 0 {
		return fmt.Errorf("this machine cannot go on with the checkpoint: %s: %w", strings.Join(why, "; "), errdefs.ErrFailedPrecondition)
	}
	return nil
}
