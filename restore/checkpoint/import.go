package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/restore/archive"
)

// Import makes a checkpoint image of an archive that an engine has written: containerd's CRI,
// CRI-O or Podman, compressed or not. base, if it is set, is the image that the container
// stood on; archives of CRI-O and Podman do not pin it. Of o TempDir and Progress count.
//
// An archive that is not whole or not harmless is an errdefs.ErrInvalidArgument that names
// the entry. On any error nothing is published.
func Import(ctx context.Context, r io.Reader, base archive.Base, dst convert.Target, o Options) (*Result, error) {
	return o.importFrom(ctx, func(dir string) (*archive.Checkpoint, error) { return archive.Read(ctx, r, dir, archive.Limits{}) }, base, dst)
}

// ImportNative is Import of what containerd's own client has made: see [Native] and [Stored].
// The base image is pinned if it was put in.
func ImportNative(ctx context.Context, n archive.Native, base archive.Base, dst convert.Target, o Options) (*Result, error) {
	return o.importFrom(ctx, func(dir string) (*archive.Checkpoint, error) { return n.Read(ctx, dir, archive.Limits{}) }, base, dst)
}

func (o Options) importFrom(ctx context.Context, read func(dir string) (*archive.Checkpoint, error), base archive.Base, dst convert.Target) (_ *Result, err error) {
	ctx, span := tracer.Start(ctx, "import checkpoint")
	defer span.End()
	dir, err := os.MkdirTemp(o.TempDir, "lithify-checkpoint-")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", convert.ErrTemp, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cp, err := read(dir)
	if err != nil {
		return nil, err
	}
	if base.Digest != "" {
		cp.Base = base
	}
	if cp.Base.Digest == "" {
		return nil, fmt.Errorf("the checkpoint does not say by its digest which image the container stood on (it calls it %q): name that with --base: %w", cp.Base.Name, errdefs.ErrInvalidArgument)
	}
	return o.publish(ctx, dst, cp, dir)
}
