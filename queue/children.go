package queue

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
)

// GetAll reads many jobs. Those that do not exist are left out.
func (c *Client) GetAll(ctx context.Context, ids []jobs.ID) (map[jobs.ID]Status, error) {
	out := make(map[jobs.ID]Status, len(ids))
	for part := range slices.Chunk(ids, listBatch/2) {
		subjects := make([]string, 0, 2*len(part))
		for _, id := range part {
			subjects = append(subjects, specSubject(id), runSubject(id))
		}
		msgs, err := c.last(ctx, streamState, subjects...)
		if err != nil {
			return nil, fmt.Errorf("read %d jobs: %w", len(ids), err)
		}
		for _, id := range part {
			st, err := c.statusOf(id, msgs)
			switch {
			case err == nil:
				out[id] = st
			case !errdefs.IsNotFound(err):
				return nil, err
			}
		}
	}
	return out, nil
}
