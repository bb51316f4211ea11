package restore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"github.com/moby/sys/signal"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/lithify/lithify/restore/logtail"
)

// refresh tells the container who it is now, and has it act on that.
func (r *run) refresh(ctx context.Context, c client.Container, task client.Task) error {
	ctx, done := context.WithTimeoutCause(ctx, r.opts.Timeout, errTimeout)
	defer done()
	p, err := hold(ctx, task)
	if err == nil {
		err = errors.Join(r.identify(p), p.Close())
	}
	if err == nil && r.opts.Refresh != "" {
		err = r.runIn(ctx, c, task, r.opts.Refresh, filepath.Join(r.state(), "refresh.log"))
	}
	if err == nil && r.opts.Signal != "" {
		err = r.signal(ctx, task)
	}
	if err != nil {
		return fmt.Errorf("refresh container %s: %w", c.ID(), err)
	}
	return nil
}

// runIn runs a script in the container and waits for its end, which has to be a good one.
func (r *run) runIn(ctx context.Context, c client.Container, task client.Task, script, log string) error {
	spec, err := c.Spec(ctx)
	if err != nil {
		return err
	}
	p := *spec.Process
	// One stream: of two that go to one file containerd's shim (2.4.2) closes the file with
	// the first that ends, and a script that ends soon loses what it says on stderr.
	p.Args, p.Terminal, p.Cwd = []string{"/bin/sh", "-c", "exec 2>&1\n" + script}, false, "/"
	p.Env = slices.Concat(p.Env, r.opts.Env, r.identity())
	code, err := execute(ctx, task, &p, log)
	if err == nil && code != 0 {
		err = fmt.Errorf("the script ended with %d: %w%s", code, errdefs.ErrFailedPrecondition, logtail.Of("the script", log))
	}
	return err
}

// execute runs a process in a container's namespaces to its end. After that the log has all
// that it wrote: the shim writes until the process is deleted.
func execute(ctx context.Context, task client.Task, p *specs.Process, log string) (code uint32, err error) {
	process, err := task.Exec(ctx, "refresh", p, cio.LogFile(log))
	if err != nil {
		return 0, err
	}
	defer func() {
		ctx, done := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer done()
		_, derr := process.Delete(ctx, client.WithProcessKill)
		err = errors.Join(err, derr)
	}()
	exited, err := process.Wait(ctx)
	if err == nil {
		err = process.Start(ctx)
	}
	if err != nil {
		return 0, err
	}
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case status := <-exited:
		return status.ExitCode(), status.Error()
	}
}

// signal tells the container's first process.
func (r *run) signal(ctx context.Context, task client.Task) error {
	s, err := signal.ParseSignal(r.opts.Signal)
	if err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return task.Kill(ctx, s)
}
