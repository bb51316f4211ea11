package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"

	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/convert/upper"
	"github.com/lithify/lithify/restore/logtail"
)

// What a dump is made of, as in an archive of containerd's.
const (
	imagesDir  = "checkpoint"
	rootfsDiff = "rootfs-diff.tar"
	dumpLog    = "dump.log"
)

// dump writes memory and changed files of c to dir. The container stands still when it
// returns, until thaw is called, which must be called unless there is an error.
func (o Options) dump(ctx context.Context, c *stack.Container, dir string) (thaw func() error, err error) {
	if thaw, err = c.Freeze(ctx); err != nil {
		return nil, err
	}
	if err := o.dumpFrozen(ctx, c, dir); err != nil {
		return nil, errors.Join(err, thaw())
	}
	return thaw, nil
}

// dumpFrozen is dump of a container that stands still.
func (o Options) dumpFrozen(ctx context.Context, c *stack.Container, dir string) error {
	ctx, span := tracer.Start(ctx, "dump")
	defer span.End()
	if err := os.Mkdir(filepath.Join(dir, imagesDir), 0o700); err != nil {
		return err
	}
	if err := o.dumpMemory(ctx, c, dir); err != nil {
		return err
	}
	return dumpFiles(ctx, c, filepath.Join(dir, rootfsDiff))
}

// dumpMemory has runc, and that CRIU, write the images. containerd makes nothing of its
// own of them where it is given a directory, and does not resume what others have paused.
func (o Options) dumpMemory(ctx context.Context, c *stack.Container, dir string) error {
	task, err := c.Task(ctx, nil)
	if err != nil {
		return fmt.Errorf("task of container %s: %w", c.ID(), err)
	}
	if o.Quiet != nil {
		defer o.Quiet()()
	}
	_, err = task.Checkpoint(ctx, func(i *client.CheckpointTaskInfo) error {
		i.Options = &options.CheckpointOptions{ImagePath: filepath.Join(dir, imagesDir), WorkPath: dir, OpenTcp: o.TCPEstablished, FileLocks: o.FileLocks}
		return nil
	})
	if err != nil {
		return fmt.Errorf("dump container %s: %w%s", c.ID(), err, logtail.Of("CRIU", filepath.Join(dir, dumpLog)))
	}
	return nil
}

// dumpFiles writes what the container has changed, as a layer of an image.
func dumpFiles(ctx context.Context, c *stack.Container, file string) (err error) {
	up, err := c.Upper(ctx)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	zip, err := gzip.NewWriterLevel(f, gzip.BestSpeed) // the whole is compressed again
	if err != nil {
		return err
	}
	err = upper.Write(ctx, zip, up.Dir, upper.Options{UserXattrs: up.UserXattrs, Owner: up.Owner})
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("reading the container's files takes root: %w: %w", err, errdefs.ErrPermissionDenied)
	}
	return errors.Join(err, zip.Close())
}
