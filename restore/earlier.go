package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/identifiers"
	"github.com/containerd/errdefs"
	"github.com/gofrs/flock"

	"github.com/lithify/lithify/convert/stack"
)

// lock makes sure that one process at a time makes a container of this name. No container
// has a name that begins with a dot: the lock of web is no directory of web.lock.
func (r *run) lock() (unlock func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(r.state()), 0o700); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(filepath.Dir(r.state()), "."+r.opts.Name+".lock"))
	got, err := lock.TryLock()
	if err == nil && !got {
		err = fmt.Errorf("another process is at it; try again when it is done: %w", errdefs.ErrUnavailable)
	}
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", r.opts.Name, err)
	}
	return lock.Close, nil
}

// earlier looks for a container that has the name. One that an earlier attempt of the
// same job has restored is the result; what one has left half done that was killed, whose
// ever it was, is removed. Any other is left alone, and the name is taken.
func (r *run) earlier(ctx context.Context) (*Result, error) {
	c, labels, err := r.find(ctx)
	if err != nil {
		return nil, err
	}
	if c == nil { // whoever has removed it knows nothing of ours
		return nil, errors.Join(r.unbind(), r.disconnect(ctx), r.clear())
	}
	ours := r.opts.Job != "" && labels[labelJob] == r.opts.Job && labels[labelCheckpoint] == r.img.Descriptor.Digest.String()
	half := labels[labelUse] == useHalf && labels[labelRoot] == r.opts.Root // and nobody is at it, for we have the lock
	if !ours && !half {
		return nil, fmt.Errorf("container %s of namespace %s is there already; give another name: %w", r.opts.Name, r.daemon.Namespace(), errdefs.ErrAlreadyExists)
	}
	if ours && !half {
		if task, err := c.Task(ctx, nil); err == nil {
			if s, err := task.Status(ctx); err == nil && s.Status == client.Running {
				return r.result(ctx, c, task)
			}
		}
	}
	return nil, r.remove(ctx, c)
}

// find gives the container of the name and its labels; nil if there is none.
func (r *run) find(ctx context.Context) (client.Container, map[string]string, error) {
	c, err := r.daemon.Client().LoadContainer(ctx, r.opts.Name)
	if errdefs.IsNotFound(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("container %s: %w", r.opts.Name, err)
	}
	labels, err := c.Labels(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("labels of container %s: %w", r.opts.Name, err)
	}
	return c, labels, nil
}

// remove ends and removes a container, and what we keep of it. containerd's shim answers
// nothing while runc restores, so that is ended first.
func (r *run) remove(ctx context.Context, c client.Container) error {
	if err := killRestore(ctx, r.work(), r.restoreLog()); err != nil {
		return err
	}
	task, err := c.Task(ctx, nil)
	if err == nil {
		err = r.endTask(ctx, task)
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("end container %s: %w", c.ID(), err)
	}
	if err := errors.Join(r.unbind(), r.disconnect(ctx)); err != nil {
		return err
	}
	if err := c.Delete(ctx, client.WithSnapshotCleanup); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove container %s: %w", c.ID(), err)
	}
	return r.clear()
}

// clear removes the container's directory. CRIU that was killed leaves the machine's control
// groups mounted in there, and who removed the directory with them would remove those.
func (r *run) clear() error {
	if err := unmountBelow(r.state()); err != nil {
		return fmt.Errorf("what CRIU has left in %s: %w", r.state(), err)
	}
	return os.RemoveAll(r.state())
}

// Remove ends and removes the container that o.Job has restored as o.Name, with its snapshot
// and its log. One that is not there, or that another has made, is left alone. Of o Root
// counts besides.
func Remove(ctx context.Context, d *stack.Daemon, o Options) (err error) {
	if err := identifiers.Validate(o.Name); err != nil { // which becomes part of paths
		return fmt.Errorf("name of the container: %w", err)
	}
	r := &run{daemon: d, opts: o.withDefaults()}
	unlock, err := r.lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	c, labels, err := r.find(ctx)
	if c == nil || err != nil || labels[labelJob] != o.Job || o.Job == "" {
		return err
	}
	return r.remove(ctx, c)
}
