package queue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// alone takes the lead of a pool that has no scheduler, so that one that is started
// stands by until done. If another leads nevertheless, the context that it gives ends,
// and says so as its cause. A scheduler that is there is errdefs.ErrFailedPrecondition.
func (c *Client) alone(ctx context.Context, version string, replicas int) (_ context.Context, done func(), err error) {
	found, err := c.Schedulers(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(found) > 0 {
		var names []string
		for _, s := range found {
			names = append(names, s.Name)
		}
		return nil, nil, fmt.Errorf("stop the pool's schedulers first, they change its jobs: %s (one that has died counts for %v): %w",
			strings.Join(names, ", "), nodeTTL, errdefs.ErrFailedPrecondition)
	}
	name, err := Named("")
	if err != nil {
		return nil, nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var campaign sync.WaitGroup
	settled := make(chan struct{})
	settle := sync.OnceFunc(func() { close(settled) })
	campaign.Go(func() {
		c.Campaign(ctx, Scheduler{Name: name, Host: host, PID: os.Getpid(), Version: version, Started: time.Now().UTC()}, replicas, func(leads bool) {
			if !leads {
				cancel(fmt.Errorf("a scheduler was started and leads the pool, stop it: %w", errdefs.ErrFailedPrecondition))
			}
			settle()
		})
	})
	done = func() { cancel(nil); campaign.Wait() }
	select {
	case <-settled:
	case <-time.After(apiTimeout):
		cancel(errors.New("the scheduler's lease cannot be had"))
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		defer done()
		return nil, nil, context.Cause(ctx)
	}
	return ctx, done, nil
}
