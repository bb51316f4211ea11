package checkpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

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

const (
	// maxDumps is how often a dump is tried of processes that CRIU could not stop, for which
	// it has ten seconds each time. One that was dead and not yet waited for when all were
	// frozen stays so, and CRIU takes none.
	maxDumps = 3
	// breath is how long processes go on between two, to do away with their dead.
	breath = 100 * time.Millisecond
	// dumpGrace is how long CRIU may take to end a dump that nobody wants any more. It writes the
	// memory of one process in one go.
	dumpGrace = 2 * time.Minute
)

// unseizable matches what CRIU logs of a process that it could not stop.
var unseizable = regexp.MustCompile(`Unseizable non-zombie|zombie .* found while seizing`)

// errNotSeized is of a dump that may go well later.
var errNotSeized = fmt.Errorf("CRIU could not stop a process, which another traces, or which had just died: %w", errdefs.ErrUnavailable)

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
	images := filepath.Join(dir, imagesDir)
	if err := errors.Join(os.RemoveAll(images), os.Mkdir(images, 0o700)); err != nil { // of a dump before
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
	images := filepath.Join(dir, imagesDir)
	// At a deadline that it hears of the shim kills runc alone (2.4.2), and CRIU goes on in processes
	// that we would resume. So it hears of none.
	call, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	var end sync.WaitGroup
	defer end.Wait()
	defer stop(nil)
	end.Go(func() { breakOff(ctx, call, images, stop) })
	_, err = task.Checkpoint(call, func(i *client.CheckpointTaskInfo) error {
		i.Options = &options.CheckpointOptions{ImagePath: images, WorkPath: dir, OpenTcp: o.TCPEstablished, FileLocks: o.FileLocks}
		return nil
	})
	if why := cmp.Or(context.Cause(call), context.Cause(ctx)); why != nil { // and images may lack some
		return fmt.Errorf("dump container %s: %w", c.ID(), why)
	}
	if err != nil {
		tail := logtail.Of("CRIU", filepath.Join(dir, dumpLog))
		if unseizable.MatchString(tail) {
			err = fmt.Errorf("%w: %w", err, errNotSeized)
		}
		return fmt.Errorf("dump container %s: %w%s", c.ID(), err, tail)
	}
	return nil
}

// breakOff ends a dump, call, once ctx is done. CRIU that is killed leaves its own code running in
// the processes; so its directory is taken away, and it puts all back as it was when it cannot make
// its next file. stop is called if it does not come to that.
func breakOff(ctx, call context.Context, images string, stop context.CancelCauseFunc) {
	select {
	case <-call.Done():
		return
	case <-ctx.Done():
	}
	grace := time.NewTimer(dumpGrace)
	defer grace.Stop()
	again := time.NewTicker(breath)
	defer again.Stop()
	for {
		// CRIU may make a file meanwhile: then the directory is not empty, and goes the next time.
		_ = os.RemoveAll(images)
		select {
		case <-call.Done():
			return
		case <-grace.C:
			stop(fmt.Errorf("%w, and CRIU has not ended %v later: the container goes on when it has: %w", context.Cause(ctx), dumpGrace, errdefs.ErrUnavailable))
			return
		case <-again.C:
		}
	}
}

// dumpFiles writes what the container has changed, as a layer of an image.
func dumpFiles(ctx context.Context, c *stack.Container, file string) (err error) {
	up, err := c.Upper(ctx)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
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
