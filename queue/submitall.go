package queue

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/jobs"
)

const (
	// submitPart jobs fill a batch: each is two messages.
	submitPart = groupMessages / 2
	// submitParts of a client are under way at a time: some are read or encoded while
	// others are written. Each job of them is a goroutine.
	submitParts = 4
)

// SubmitAll is Submit for many jobs, in few writes. What it gives is in the order of
// js. After an error, submit all of them again: those that were accepted are
// answered as they are.
func (c *Client) SubmitAll(ctx context.Context, js []jobs.Job) ([]Status, error) {
	out := make([]Status, len(js))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(submitParts)
	for from := 0; from < len(js) && ctx.Err() == nil; from += submitPart {
		to := min(from+submitPart, len(js))
		g.Go(func() error { return c.submitPart(ctx, js[from:to], out[from:to]) })
	}
	return out, g.Wait()
}

// submitPart submits jobs at the same time, so that their writes meet. It looks
// first which exist: a batch with one of these would be refused.
func (c *Client) submitPart(ctx context.Context, js []jobs.Job, out []Status) error {
	if err := c.parts.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	defer c.parts.Release(1)
	ids := make([]jobs.ID, len(js))
	for i, j := range js {
		ids[i] = j.ID
	}
	known, err := c.GetAll(ctx, ids, "", 0)
	if err != nil && !errors.Is(err, ErrUnreadable) { // of one of them: it will be refused
		return fmt.Errorf("submit: %w", err)
	}
	var g errgroup.Group
	for i, j := range js {
		g.Go(func() (err error) {
			if out[i], err = c.submitOver(ctx, known[j.ID], j); err != nil {
				return fmt.Errorf("job %s: %w", j.ID, err)
			}
			return nil
		})
	}
	return g.Wait()
}
