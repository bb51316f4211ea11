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
func Import(ctx context.Context, r io.Reader, base archive.Base, dst convert.Target, o Options) (_ *Result, err error) {
	ctx, span := tracer.Start(ctx, "import checkpoint")
	defer span.End()
	dir, err := os.MkdirTemp(o.TempDir, "lithify-checkpoint-")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", convert.ErrTemp, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	cp, err := archive.Read(ctx, r, dir, archive.Limits{})
	if err != nil {
		return nil, err
	}
	if base.Digest != "" {
		cp.Base = base
	}
	if cp.Base.Digest == "" {
		return nil, fmt.Errorf("the archive does not say by its digest which image the container stood on (it calls it %q): name that with --base: %w", cp.Base.Name, errdefs.ErrInvalidArgument)
	}
	return o.publish(ctx, dst, cp, dir)
}
