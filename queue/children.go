package queue

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
)

// GetAll reads many jobs, from a replica that has heard at least what the caller has:
// that the record of job heard has this revision or a later one; with revision 0 from
// any. Jobs that do not
// exist are left out. A replica that stays behind is errdefs.ErrUnavailable.
func (c *Client) GetAll(ctx context.Context, ids []jobs.ID, heard jobs.ID, revision uint64) (map[jobs.ID]Status, error) {
	return c.getAll(ctx, ids, runSubject(heard), revision)
}

func (c *Client) getAll(ctx context.Context, ids []jobs.ID, fence string, revision uint64) (map[jobs.ID]Status, error) {
	out := make(map[jobs.ID]Status, len(ids))
	for part := range slices.Chunk(ids, listBatch/2) {
		subjects := make([]string, 0, 2*len(part))
		for _, id := range part {
			subjects = append(subjects, specSubject(id), runSubject(id))
		}
		msgs, err := c.lastAt(ctx, subjects, fence, revision)
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

// States tells how jobs stand, as GetAll would, for less: it reads their records alone,
// and a result is nobody's word here. For one who wants to know no more than whether
// they have ended.
func (c *Client) States(ctx context.Context, ids []jobs.ID, heard jobs.ID, revision uint64) (map[jobs.ID]jobs.State, error) {
	out := make(map[jobs.ID]jobs.State, len(ids))
	for part := range slices.Chunk(ids, listBatch) {
		subjects := make([]string, len(part))
		for i, id := range part {
			subjects[i] = runSubject(id)
		}
		msgs, err := c.lastAt(ctx, subjects, runSubject(heard), revision)
		if err != nil {
			return nil, fmt.Errorf("read %d records: %w", len(ids), err)
		}
		for _, id := range part {
			m := msgs[runSubject(id)]
			if m == nil {
				continue
			}
			r, err := jobs.DecodeRecord(m.Data)
			if err != nil {
				return nil, fmt.Errorf("read record of job %s: %w: %w", id, ErrUnreadable, err)
			}
			out[id] = r.State
		}
	}
	return out, nil
}

// lastAt is last of STATE, from a replica that has heard of this or a later revision of
// a subject, the fence: replicas apply what is written in its order.
func (c *Client) lastAt(ctx context.Context, subjects []string, fence string, revision uint64) (map[string]*jetstream.RawStreamMsg, error) {
	if revision == 0 {
		return c.last(ctx, streamState, subjects...)
	}
	if !slices.Contains(subjects, fence) {
		subjects = append(subjects, fence)
	}
	for wait := lagFirst; ; wait *= 2 {
		msgs, err := c.last(ctx, streamState, subjects...)
		if err != nil {
			return nil, err
		}
		m := msgs[fence]
		switch {
		case m != nil && m.Sequence >= revision, m == nil && wait > lagLast: // perhaps it was forgotten
			return msgs, nil
		case wait > lagLast:
			return nil, fmt.Errorf("revision %d is not there yet: %w", revision, errdefs.ErrUnavailable)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
