package queue

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
)

// Filter chooses jobs; the zero value chooses the latest of all.
type Filter struct {
	Kind   string       // else every kind
	States []jobs.State // else every state
	Error  string       // else all: part of the last failure's message
	Limit  int          // default DefaultLimit
}

// DefaultLimit is a screenful or two.
const DefaultLimit = 100

// List gives the jobs that match, those that changed last first. It reads every
// record of the kind and keeps those within the limit. Each job that is there when
// it begins is looked at once, however the pool changes meanwhile.
func (c *Client) List(ctx context.Context, f Filter) ([]Status, error) {
	if f.Limit <= 0 {
		f.Limit = DefaultLimit
	}
	subject := RunFilter
	if f.Kind != "" {
		subject = "st." + f.Kind + ".*.run"
		if _, err := jobs.ParseClass(f.Kind); err != nil {
			return nil, err
		}
	}
	found, err := c.newest(ctx, subject, f)
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	return c.withSpecs(ctx, found)
}

// newest reads every record and keeps the last that match. It goes by subject: a
// reader of the stream would meet a record that changes twice, or never.
func (c *Client) newest(ctx context.Context, subject string, f Filter) ([]Change, error) {
	subjects, err := c.subjects(ctx, streamState, subject)
	if err != nil {
		return nil, err
	}
	var found []Change
	for part := range slices.Chunk(subjects, listBatch) {
		msgs, err := c.last(ctx, streamState, part...)
		if err != nil {
			return nil, err
		}
		for _, m := range msgs {
			ch, err := decodeChange(m.Subject, m.Data, m.Sequence)
			if err != nil {
				c.log.Warn("unreadable record", "error", err)
			} else if f.Matches(ch.Record) {
				found = append(found, ch)
			}
		}
		if len(found) >= 2*f.Limit {
			found = latest(found, f.Limit)
		}
	}
	return latest(found, f.Limit), nil
}

// Matches reports whether a filter chooses a job, but for its limit.
func (f Filter) Matches(r jobs.Record) bool {
	return (f.Kind == "" || r.Class.Kind == f.Kind) && (len(f.States) == 0 || slices.Contains(f.States, r.State)) &&
		(f.Error == "" || r.Failure != nil && strings.Contains(r.Failure.Message, f.Error))
}

func latest(found []Change, limit int) []Change {
	slices.SortFunc(found, func(a, b Change) int { return cmp.Compare(b.Revision, a.Revision) })
	return found[:min(len(found), limit)]
}

// subjects are those of a stream that have a message.
func (c *Client) subjects(ctx context.Context, stream, filter string) ([]string, error) {
	s, err := c.js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return nil, err
	}
	return slices.Collect(maps.Keys(info.State.Subjects)), nil
}

// listBatch bounds one request: the server answers for no more than 1024 subjects.
const listBatch = 1000

func (c *Client) withSpecs(ctx context.Context, found []Change) ([]Status, error) {
	out := make([]Status, 0, len(found))
	for part := range slices.Chunk(found, listBatch) {
		subjects := make([]string, len(part))
		for i, ch := range part {
			subjects[i] = specSubject(ch.Record.ID)
		}
		msgs, err := c.last(ctx, streamState, subjects...)
		if err != nil {
			return nil, fmt.Errorf("list jobs: %w", err)
		}
		for i, ch := range part {
			st := Status{Record: ch.Record, Revision: ch.Revision}
			if m := msgs[subjects[i]]; m != nil {
				if st.Job, err = jobs.DecodeJob(m.Data); err != nil {
					c.log.Warn("unreadable job", "error", err)
				}
			}
			out = append(out, c.believed(st))
		}
	}
	return out, nil
}
