package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/restore/archive"
	"github.com/lithify/lithify/restore/logtail"
)

const (
	// maxLog bounds what CRIU writes while it restores: some 100 KiB are usual. A damaged
	// image has made CRIU 4.1.1 write 600 MiB in a minute.
	maxLog = 64 << 20
	// watchEvery is how often its size is looked at.
	watchEvery = 100 * time.Millisecond
	// killedBySIGILL is how runc tells of it.
	killedBySIGILL = 128 + 4
	// undoTimeout bounds one step back.
	undoTimeout = 30 * time.Second
)

var (
	errTimeout = fmt.Errorf("it took longer than allowed: %w", errdefs.ErrUnavailable)
	errLog     = fmt.Errorf("CRIU wrote more than %d MiB of log, as it does on a damaged checkpoint: %w", maxLog>>20, errdefs.ErrFailedPrecondition)
)

// start has CRIU make the container's processes of the checkpoint, and watches over it: it may
// take the time and write the log that it is allowed. On an error the task is gone.
func (r *run) start(ctx context.Context, c client.Container, cp *checkpoint) (_ client.Task, err error) {
	if err := os.MkdirAll(r.work(), 0o700); err != nil {
		return nil, err
	}
	if err := r.configure(cp); err != nil {
		return nil, err
	}
	images, own := cp.images(), filepath.Join(r.state(), "images")
	if r.opts.Network == CNINetwork {
		images = own
		if err := archive.Networked(cp.dir, images); err != nil {
			return nil, fmt.Errorf("images for container %s: %w", c.ID(), err)
		}
	}
	task, err := c.NewTask(ctx, cio.LogFile(r.logFile()), client.WithRestoreImagePath(images), client.WithRestoreWorkPath(r.work()))
	if err != nil {
		return nil, fmt.Errorf("task of container %s: %w", c.ID(), err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.endTask(ctx, task))
		}
	}()
	defer func() { err = errors.Join(err, r.unbind(), os.RemoveAll(own)) }()
	if err := r.bind(ctx); err != nil {
		return nil, err
	}
	// The shim kills runc at a deadline that it hears of, and what runc has made then stays (2.4.2).
	// So it hears of none: endTask knows better.
	limit, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	var watch sync.WaitGroup
	defer watch.Wait()
	defer stop(nil)
	defer context.AfterFunc(ctx, func() { stop(context.Cause(ctx)) })()
	defer time.AfterFunc(r.opts.Timeout, func() { stop(errTimeout) }).Stop()
	watch.Go(func() { r.watch(limit, r.restoreLog(), stop) })
	if err := task.Start(limit); err != nil {
		if cause := context.Cause(limit); cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("restore container %s: %w%s", c.ID(), err, logtail.Of("CRIU", r.restoreLog()))
	}
	r.took = time.Since(r.began)
	if err := r.named(ctx, c); err != nil {
		return nil, err
	}
	return task, r.settled(ctx, task)
}

// watch ends the restore if its log grows too long.
func (r *run) watch(ctx context.Context, log string, stop context.CancelCauseFunc) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if info, err := os.Stat(log); err == nil && info.Size() > maxLog {
				stop(errLog)
				return
			}
		}
	}
}

// settled reports whether the processes live on for a moment.
func (r *run) settled(ctx context.Context, task client.Task) error {
	exited, err := task.Wait(ctx)
	if err != nil {
		return fmt.Errorf("wait for container %s: %w", r.opts.Name, err)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(settle):
		return nil
	case status := <-exited:
		why := ""
		if status.ExitCode() == killedBySIGILL {
			why = ", as where this CPU lacks what the processes had found on theirs"
		}
		return fmt.Errorf("container %s exited with %d as soon as it was restored%s: %w", r.opts.Name, status.ExitCode(), why, errdefs.ErrFailedPrecondition)
	}
}

// endTask removes what runs or half runs of a task.
func (r *run) endTask(ctx context.Context, task client.Task) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	err := killRestore(ctx, r.work(), r.restoreLog())
	if _, derr := task.Delete(ctx, client.WithProcessKill); derr != nil && !errdefs.IsNotFound(derr) {
		err = errors.Join(err, fmt.Errorf("delete task of container %s: %w", r.opts.Name, derr))
	}
	return err
}
