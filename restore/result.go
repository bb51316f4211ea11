package restore

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/containerd/containerd/v2/client"

	"github.com/lithify/lithify/restore/archive"
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
	res := &Result{
		Container:  c.ID(),
		Namespace:  r.daemon.Namespace(),
		Checkpoint: r.img.Name,
		Digest:     r.img.Descriptor.Digest,
		Base:       info.Image,
		PID:        task.Pid(),
		Processes:  len(pids),
		Log:        r.logFile(),
		CRIULog:    r.restoreLog(),
	}
	// Of a container that runs it is no matter if CRIU has measured nothing.
	if stats, err := archive.ReadStats(filepath.Join(r.work(), "stats-restore")); err == nil {
		res.CRIU, res.Pages = stats.Restore, stats.Pages
	}
	a, err := r.attached()
	if a != nil {
		res.IPs = a.IPs
	}
	return res, err
}
