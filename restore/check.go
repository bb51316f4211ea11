package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/client"
)

// check waits until the container is healthy, if somebody wants to know.
func (r *run) check(ctx context.Context, c client.Container, task client.Task) error {
	if r.opts.Check == nil {
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	exited, err := task.Wait(ctx)
	if err != nil {
		return fmt.Errorf("wait for container %s: %w", c.ID(), err)
	}
	ended := make(chan error, 1)
	go func() { // it ends with ctx, which ends with the check
		if status := <-exited; status.Error() == nil {
			ended <- fmt.Errorf("its first process ended with %d", status.ExitCode())
		}
	}()
	if err := r.opts.Check.Wait(ctx, &checked{r, c, task, ended}, func() { r.opts.Alive(0) }); err != nil {
		return fmt.Errorf("check of container %s: %w", c.ID(), err)
	}
	return nil
}

// checked is a container as a check sees it.
type checked struct {
	*run
	c     client.Container
	task  client.Task
	ended chan error
}

// Run implements health.Container.
func (h *checked) Run(ctx context.Context, script string) error {
	log := filepath.Join(h.state(), "check.log")
	if err := os.Remove(log); err != nil && !errors.Is(err, fs.ErrNotExist) { // what an earlier check has said
		return err
	}
	return h.runIn(ctx, h.c, h.task, script, log)
}

// Dial implements health.Container.
func (h *checked) Dial(ctx context.Context, address string) (net.Conn, error) {
	p, err := hold(ctx, h.task)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return dial(ctx, p, address)
}

// Ended implements health.Container.
func (h *checked) Ended() <-chan error { return h.ended }
