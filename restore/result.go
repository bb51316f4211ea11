package restore

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/v2/client"
)

// result describes a container that runs.
func (r *run) result(ctx context.Context, c client.Container, task client.Task) (*Result, error) {
	info, err := c.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", c.ID(), err)
	}
	pids, err := task.Pids(ctx)
	if err != nil {
		return nil, fmt.Errorf("processes of container %s: %w", c.ID(), err)
	}
	return &Result{
		Container:  c.ID(),
		Namespace:  r.daemon.Namespace(),
		Checkpoint: r.img.Name,
		Digest:     r.img.Descriptor.Digest,
		Base:       info.Image,
		PID:        task.Pid(),
		Processes:  len(pids),
		Log:        r.logFile(),
	}, nil
}
