package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
)

// discardedHeader of a letter in DLQ says that it is off the list. The letter stays,
// so that no scheduler writes it anew.
const discardedHeader = "Lithify-Discarded"

// Bury writes the letter of a dead job, once for each death: a start of the scheduler
// sees a dead record again.
func (c *Client) Bury(ctx context.Context, r jobs.Record) error {
	if is, err := c.Buried(ctx, r); is || err != nil {
		return err
	}
	return c.writeLetter(ctx, r, nil)
}

// Buried reports whether a dead job has its letter.
func (c *Client) Buried(ctx context.Context, r jobs.Record) (bool, error) {
	old, err := c.DeadLetter(ctx, r.ID)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil && oneDeath(old, r), err
}

// oneDeath reports whether a letter is of the death that a record tells of. Generations
// do not say so: a job that was forgotten begins with the first again.
func oneDeath(letter, r jobs.Record) bool { return letter.Updated.Equal(r.Updated) }

func (c *Client) writeLetter(ctx context.Context, r jobs.Record, h nats.Header) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := c.js.PublishMsg(ctx, &nats.Msg{Subject: deadSubject(r.ID), Data: b, Header: h}); err != nil {
		return fmt.Errorf("write dead letter %s: %w", r.ID, err)
	}
	return nil
}

// DeadLetter is the record of a job as it was when it last died; errdefs.ErrNotFound
// if it never did.
func (c *Client) DeadLetter(ctx context.Context, id jobs.ID) (jobs.Record, error) {
	msgs, err := c.last(ctx, streamDead, deadSubject(id))
	if err != nil {
		return jobs.Record{}, fmt.Errorf("read dead letter %s: %w", id, err)
	}
	m := msgs[deadSubject(id)]
	if m == nil {
		return jobs.Record{}, fmt.Errorf("dead letter %s: %w", id, errdefs.ErrNotFound)
	}
	return jobs.DecodeRecord(m.Data)
}

// Letters lists the jobs that are dead and were not discarded, the latest first. A
// job that runs again is none of them, whoever asked for it.
func (c *Client) Letters(ctx context.Context) ([]jobs.Record, error) {
	subjects, err := c.subjects(ctx, streamDead, "dlq.>")
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	letters := []jobs.Record{}
	for part := range slices.Chunk(subjects, listBatch) {
		msgs, err := c.last(ctx, streamDead, part...)
		if err == nil {
			letters, err = c.appendDead(ctx, letters, msgs)
		}
		if err != nil {
			return nil, fmt.Errorf("list dead letters: %w", err)
		}
	}
	slices.SortFunc(letters, func(a, b jobs.Record) int { return cmp.Or(b.Updated.Compare(a.Updated), cmp.Compare(a.ID, b.ID)) })
	return letters, nil
}

// appendDead appends the letters among msgs whose jobs are still dead of them.
func (c *Client) appendDead(ctx context.Context, to []jobs.Record, msgs map[string]*jetstream.RawStreamMsg) ([]jobs.Record, error) {
	var found []jobs.Record
	var ask []string
	for subject, m := range msgs {
		r, err := jobs.DecodeRecord(m.Data)
		if err != nil {
			c.log.Warn("unreadable dead letter", "subject", subject, "error", err)
			continue
		}
		if m.Header.Get(discardedHeader) == "" {
			found, ask = append(found, r), append(ask, runSubject(r.ID))
		}
	}
	if len(found) == 0 {
		return to, nil
	}
	runs, err := c.last(ctx, streamState, ask...)
	if err != nil {
		return nil, err
	}
	for _, r := range found {
		m := runs[runSubject(r.ID)]
		if m == nil {
			continue
		}
		ch, err := decodeChange(m.Subject, m.Data, m.Sequence)
		if err == nil && ch.Record.State == jobs.Dead && oneDeath(r, ch.Record) {
			to = append(to, r)
		}
	}
	return to, nil
}

// Discard takes a dead job off the list of letters. Its record and history stay as
// long as those of other ended jobs, and it can still be retried. One that is not
// dead is errdefs.ErrFailedPrecondition.
func (c *Client) Discard(ctx context.Context, id jobs.ID) error {
	st, err := c.Get(ctx, id)
	if err != nil {
		return fmt.Errorf("discard: %w", err)
	}
	if st.State != jobs.Dead {
		return fmt.Errorf("discard: job %s is %s, not dead: %w", id, st.State, errdefs.ErrFailedPrecondition)
	}
	return c.writeLetter(ctx, st.Record, nats.Header{discardedHeader: {c.name}})
}

// Retry opens a job again that ended without a result, as a new generation with all
// its attempts and, from now, all its time. It opens what is quarantined, too. A job
// that is on its way is fine; one that is done is errdefs.ErrFailedPrecondition.
func (c *Client) Retry(ctx context.Context, id jobs.ID) (Status, error) {
	for {
		st, err := c.Get(ctx, id)
		if err != nil {
			return st, fmt.Errorf("retry: %w", err)
		}
		j, now := st.Job, time.Now().UTC()
		j.Created, j.Deadline = now, now.Add(j.Deadline.Sub(j.Created))
		j.Parent = "" // whoever asks now waits for it
		again, err := c.open(ctx, st, jobs.Open{Job: j, Force: true, At: now})
		switch _, edge := errors.AsType[*jobs.EdgeError](err); {
		case err == nil:
			c.Note(again, Event{Phrase: "retried"})
			return again, nil
		case edge && st.State == jobs.Done:
			return st, fmt.Errorf("retry: job %s is done: %w", id, errdefs.ErrFailedPrecondition)
		case edge:
			return st, nil
		case !errdefs.IsConflict(err):
			return st, fmt.Errorf("retry: %w", err)
		}
	}
}
