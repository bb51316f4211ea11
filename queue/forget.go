package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
)

// forgetBatch bounds one step of Forget: it reads so many records at most.
const forgetBatch = 500

const specFilter = "st.*.*.spec"

// Forget removes jobs that ended before a time. It takes one bounded step through
// the records in the order of their last change, from the place that the step before
// gave (0: the beginning), and gives the place for the next one, 0 if there is
// nothing older. A job that is opened again meanwhile stays, and so does one whose parent has not
// ended: that may ask how it did.
func (c *Client) Forget(ctx context.Context, before time.Time, from uint64) (next uint64, removed int, err error) {
	old, next, err := c.endedBefore(ctx, before, from)
	if err != nil || len(old) == 0 {
		return next, 0, err
	}
	s, err := c.js.Stream(ctx, streamState)
	if err != nil {
		return from, 0, fmt.Errorf("forget jobs: %w", err)
	}
	subjects := make([]string, len(old))
	for i, ch := range old {
		subjects[i] = specSubject(ch.Record.ID)
	}
	specs, err := c.last(ctx, streamState, subjects...)
	if err != nil {
		return from, 0, fmt.Errorf("forget jobs: %w", err)
	}
	asking, err := c.unended(ctx, specs)
	if err != nil {
		return from, 0, fmt.Errorf("forget jobs: %w", err)
	}
	for i, ch := range old {
		spec := specs[subjects[i]]
		if asking[parentOf(spec)] {
			continue
		}
		gone, err := deleteExact(ctx, s, ch.Revision)
		if gone && spec != nil && err == nil {
			// The record went first: a job without a spec could not be opened again, a
			// spec without a record is nobody's.
			_, err = deleteExact(ctx, s, spec.Sequence)
			removed++
		}
		if err != nil {
			return from, removed, fmt.Errorf("forget job %s: %w", ch.Record.ID, err)
		}
	}
	return next, removed, nil
}

// parentOf is empty for a job that has none, or that this version cannot read.
func parentOf(spec *jetstream.RawStreamMsg) jobs.ID {
	if spec == nil {
		return ""
	}
	j, err := jobs.DecodeJob(spec.Data)
	if err != nil {
		return ""
	}
	return j.Parent
}

// unended are those parents of jobs that have not ended, as far as this version can tell.
func (c *Client) unended(ctx context.Context, specs map[string]*jetstream.RawStreamMsg) (map[jobs.ID]bool, error) {
	var subjects []string
	for _, spec := range specs {
		if id := parentOf(spec); id != "" {
			subjects = append(subjects, runSubject(id))
		}
	}
	slices.Sort(subjects)
	if subjects = slices.Compact(subjects); len(subjects) == 0 {
		return nil, nil
	}
	runs, err := c.last(ctx, streamState, subjects...)
	if err != nil {
		return nil, err
	}
	open := map[jobs.ID]bool{}
	for _, m := range runs {
		if r, err := jobs.DecodeRecord(m.Data); err == nil && !r.State.Ended() {
			open[r.ID] = true
		}
	}
	return open, nil
}

// ForgetUnfinished removes jobs that have no record: whoever submitted them died between
// the two writes. It takes a step as Forget does. before is far longer ago than a
// submission takes.
func (c *Client) ForgetUnfinished(ctx context.Context, before time.Time, from uint64) (next uint64, removed int, err error) {
	fail := func(err error) (uint64, int, error) {
		return from, removed, fmt.Errorf("forget unfinished jobs: %w", err)
	}
	specs, next, err := c.olderThan(ctx, specFilter, before, from)
	if err != nil || len(specs) == 0 {
		return next, 0, err
	}
	subjects := make([]string, len(specs))
	for i, m := range specs {
		subjects[i] = strings.TrimSuffix(m.Subject, ".spec") + ".run"
	}
	runs, err := c.last(ctx, streamState, subjects...)
	if err != nil {
		return fail(err)
	}
	s, err := c.js.Stream(ctx, streamState)
	if err != nil {
		return fail(err)
	}
	for i, m := range specs {
		if runs[subjects[i]] != nil {
			continue
		}
		gone, err := deleteExact(ctx, s, m.Sequence)
		if err != nil {
			return fail(err)
		}
		if gone {
			removed++
		}
	}
	return next, removed, nil
}

// deleteExact deletes one message; false if it was not there: a later one of its
// subject has replaced it.
func deleteExact(ctx context.Context, s jetstream.Stream, seq uint64) (bool, error) {
	err := s.DeleteMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
		return false, nil
	}
	return err == nil, err
}

// endedBefore reads a batch of records and gives those of jobs that ended before.
func (c *Client) endedBefore(ctx context.Context, before time.Time, from uint64) (old []Change, next uint64, err error) {
	msgs, next, err := c.olderThan(ctx, RunFilter, before, from)
	for _, m := range msgs {
		ch, err := decodeChange(m.Subject, m.Data, m.Sequence)
		if err == nil && ch.Record.State.Ended() { // what this version cannot read it leaves alone
			old = append(old, ch)
		}
	}
	return old, next, err
}

// olderThan reads a batch of STATE and gives what was written before, and where to go on;
// 0 if there is nothing more.
func (c *Client) olderThan(ctx context.Context, filter string, before time.Time, from uint64) (old []*jetstream.RawStreamMsg, next uint64, _ error) {
	from = max(from, 1)
	// One message is quick to look at. A batch counts what is behind it, which takes the
	// longer the more there is.
	s, err := c.js.Stream(ctx, streamState)
	if err != nil {
		return nil, from, fmt.Errorf("read what is old: %w", err)
	}
	first, err := s.GetMsg(ctx, from, jetstream.WithGetMsgSubject(filter))
	if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && !first.Time.Before(before) {
		return nil, 0, nil
	}
	msgs, err := c.batch(ctx, streamState, filter, forgetBatch, from)
	if err != nil {
		return nil, from, fmt.Errorf("read what is old: %w", err)
	}
	for i, m := range msgs {
		if !m.Time.Before(before) {
			return msgs[:i], 0, nil
		}
		next = m.Sequence + 1
	}
	return msgs, next, nil
}
