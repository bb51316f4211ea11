package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
)

const (
	// frozenLabel is on a container from before we pause it until it has been resumed.
	// One that is found paused with it was left so by a process that died with its
	// guard.
	frozenLabel = "io.github.lithify/frozen"
	// thawTimeout bounds one attempt to resume, pauseTimeout that to pause.
	thawTimeout  = 10 * time.Second
	pauseTimeout = 30 * time.Second
)

// errBusy says that another process has the container.
var errBusy = fmt.Errorf("try again when it is done (%w)", errdefs.ErrUnavailable)

// Freeze pauses the container, so that its files stand still, until thaw is called,
// which may be called twice and must be called. If this process dies, a guard resumes it (see
// [RunGuard]). One that does not run, or that somebody else has paused, is left as it is.
func (c *Container) Freeze(ctx context.Context) (thaw func() error, err error) {
	nothing := func() error { return nil }
	task, err := c.Task(ctx, nil)
	if errdefs.IsNotFound(err) {
		return nothing, nil
	}
	if err != nil {
		return nil, fmt.Errorf("task of container %s: %w", c.ID(), err)
	}
	g, err := startGuard(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("guard of container %s: %w", c.ID(), err)
	}
	if ours, err := c.oursToFreeze(ctx, task); err != nil || !ours {
		return nothing, errors.Join(err, g.dismiss())
	}
	return c.freeze(ctx, task, g)
}

// Thaw resumes what processes that died with their guards have left paused in the
// containerd at address, in all of its namespaces: a commit's control group was killed as
// a whole. A container that is being committed is left alone. It returns the IDs.
func Thaw(ctx context.Context, address string) (thawed []string, err error) {
	d, err := Dial(address, DefaultNamespace)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	all, err := d.client.NamespaceService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	for _, ns := range all {
		ids, ierr := (&Daemon{d.client, address, ns}).thaw(namespaces.WithNamespace(ctx, ns))
		thawed, err = append(thawed, ids...), errors.Join(err, ierr)
	}
	return thawed, err
}

func (d *Daemon) thaw(ctx context.Context) (thawed []string, err error) {
	left, err := d.client.Containers(ctx, fmt.Sprintf("labels.%q", frozenLabel))
	if err != nil {
		return nil, fmt.Errorf("list containers of namespace %s: %w", d.namespace, err)
	}
	for _, c := range left {
		done, terr := (&Container{daemon: d, Container: c}).thawLeft(ctx)
		if terr != nil {
			err = errors.Join(err, fmt.Errorf("resume container %s: %w", c.ID(), terr))
		}
		if done {
			thawed = append(thawed, c.ID())
		}
	}
	return thawed, err
}

// thawLeft resumes the container unless somebody has it.
func (c *Container) thawLeft(ctx context.Context) (done bool, err error) {
	lock, err := lockContainer(c.guarded())
	if errors.Is(err, errBusy) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unlock(c.guarded(), lock)) }()
	task, err := c.Task(ctx, nil)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, thaw(ctx, c.Container, task)
}

// oursToFreeze is asked while no other process of ours has the container: what one has
// left paused is ours to resume.
func (c *Container) oursToFreeze(ctx context.Context, task client.Task) (bool, error) {
	status, err := task.Status(ctx)
	if err != nil {
		return false, fmt.Errorf("status of container %s: %w", c.ID(), err)
	}
	labels, err := c.Labels(ctx)
	if err != nil {
		return false, fmt.Errorf("labels of container %s: %w", c.ID(), err)
	}
	return status.Status == client.Running || status.Status == client.Paused && labels[frozenLabel] != "", nil
}

func (c *Container) freeze(ctx context.Context, task client.Task, g *guard) (thaw func() error, err error) {
	thawed := false
	thaw = func() error {
		if thawed {
			return nil
		}
		ctx, cancel := untold(ctx, thawTimeout)
		defer cancel()
		if err := resume(ctx, c.Container, task); err != nil {
			return errors.Join(fmt.Errorf("resume container %s: %w", c.ID(), err), g.abandon())
		}
		thawed = true
		return g.dismiss()
	}
	if _, err := c.SetLabels(ctx, map[string]string{frozenLabel: time.Now().UTC().Format(time.RFC3339)}); err != nil {
		return nil, errors.Join(fmt.Errorf("label container %s: %w", c.ID(), err), thaw())
	}
	err = pause(ctx, task)
	if err == nil {
		err = context.Cause(ctx) // nobody wants it any more
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pause container %s: %w", c.ID(), err), thaw())
	}
	return thaw, nil
}

// untold ends with nothing but d, of which only this process knows. The shim kills runc at a
// deadline that it hears of, and has its own opinion then (2.4.2): of a container that was frozen
// and not reported so, that it runs, and it refuses to resume it.
func untold(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	t := time.AfterFunc(d, func() { cancel(fmt.Errorf("no answer of its shim within %v: %w", d, errdefs.ErrUnavailable)) })
	return ctx, func() { t.Stop(); cancel(nil) }
}

// pause is done when the task is paused, also if it was before.
func pause(ctx context.Context, task client.Task) error {
	ctx, cancel := untold(ctx, pauseTimeout)
	defer cancel()
	err := task.Pause(ctx)
	if err == nil {
		return nil
	}
	if s, serr := task.Status(ctx); serr == nil && s.Status == client.Paused {
		return nil
	}
	return cmp.Or(context.Cause(ctx), err)
}

// resume is done when the task is not paused, or gone, and the label is off.
func resume(ctx context.Context, c client.Container, task client.Task) error {
	s, err := task.Status(ctx)
	switch {
	case errdefs.IsNotFound(err):
	case err != nil:
		return err
	case s.Status == client.Paused || s.Status == client.Pausing:
		if err := task.Resume(ctx); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	if _, err := c.SetLabels(ctx, map[string]string{frozenLabel: ""}); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}
