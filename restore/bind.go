package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
)

// bindDir has what mounts name while their containers are restored. It is no state: what is
// left there has nobody's files deleted with it, and goes with the machine's run.
const bindDir = "/run/lithify/mounts"

// binds are the container's, and bound is that of one of its mounts.
func (r *run) binds() string      { return filepath.Join(bindDir, r.state()) }
func (r *run) bound(i int) string { return filepath.Join(r.binds(), strconv.Itoa(i)) }

// source is what the spec has for a mount while it is restored.
func (r *run) source(i int) string {
	if m := r.opts.Mounts[i]; m.Within == "" {
		return m.Source
	}
	return r.bound(i)
}

// bind has what the mounts name mounted where nobody else can change it, for runc and CRIU, who
// look for it by a path, each of them, and follow any link that somebody has put there
// meanwhile. It is unbind's to take away, also after an error.
func (r *run) bind(ctx context.Context) error {
	for i, m := range r.opts.Mounts {
		if m.Within == "" {
			continue
		}
		if err := os.MkdirAll(r.binds(), 0o700); err != nil {
			return err
		}
		err := m.bind(r.bound(i))
		if err == nil {
			err = r.seen(ctx, r.bound(i))
		}
		if err != nil {
			return fmt.Errorf("mount of %s: %w", m.Source, err)
		}
	}
	return nil
}

// seen makes sure that containerd, and so runc, has a file for what this process has.
func (r *run) seen(ctx context.Context, file string) error {
	here, err := os.Stat(file)
	if err != nil {
		return err
	}
	server, err := r.daemon.Client().IntrospectionService().Server(ctx)
	if err != nil {
		return fmt.Errorf("process of containerd: %w", err)
	}
	there, err := os.Stat(fmt.Sprintf("/proc/%d/root%s", server.Pid, file))
	if err != nil || !os.SameFile(here, there) {
		return fmt.Errorf("containerd does not see what is mounted here: run this where it runs: %w", errdefs.ErrFailedPrecondition)
	}
	return nil
}

// unbind takes all of it away, also what one has left who died over it.
func (r *run) unbind() error {
	all, err := os.ReadDir(r.binds())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range all {
		at := filepath.Join(r.binds(), e.Name())
		uerr := unmount(at)
		if uerr == nil {
			uerr = os.Remove(at) // and no more than an empty directory, or a file of ours
		}
		err = errors.Join(err, uerr)
	}
	if err == nil {
		err = os.Remove(r.binds())
	}
	if err != nil {
		return fmt.Errorf("take away the mounts of container %s: %w", r.opts.Name, err)
	}
	return nil
}

// named has the container's spec name what the options do.
func (r *run) named(ctx context.Context, c client.Container) error {
	if !slices.ContainsFunc(r.opts.Mounts, func(m Mount) bool { return m.Within != "" }) {
		return nil
	}
	spec, err := c.Spec(ctx)
	if err != nil {
		return fmt.Errorf("spec of container %s: %w", c.ID(), err)
	}
	for i, m := range r.opts.Mounts {
		for j := range spec.Mounts {
			if spec.Mounts[j].Source == r.bound(i) {
				spec.Mounts[j].Source = m.Source
			}
		}
	}
	if err := c.Update(ctx, client.UpdateContainerOpts(client.WithSpec(spec))); err != nil {
		return fmt.Errorf("spec of container %s: %w", c.ID(), err)
	}
	return nil
}
