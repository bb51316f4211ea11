package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"

	"github.com/lithify/lithify/jobs"
)

// Submit accepts a job. When it returns without an error the job is durable and
// will be admitted by a scheduler, now or after any crash.
//
// Submitting again is safe: a job that exists (a pure kind, or one idempotency
// key) is returned as it is. If it ended without a result it is opened again as
// a new generation. A key that was used with other args is errdefs.ErrAlreadyExists,
// a job that does not fit into a message of the server errdefs.ErrOutOfRange.
// After an error, submit the same Job value again to learn what became of it.
func (c *Client) Submit(ctx context.Context, j jobs.Job) (Status, error) {
	return c.submitOver(ctx, Status{}, j) // nearly every job is new
}

// submitOver submits a job of which prev is what is known so far.
func (c *Client) submitOver(ctx context.Context, prev Status, j jobs.Job) (Status, error) {
	ctx, span := startSubmit(ctx, j)
	defer span.End()
	trace := propagation.MapCarrier{}
	otel.GetTextMapPropagator().Inject(ctx, trace)
	j.Trace = trace
	st, err := c.submit(ctx, prev, j)
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
		return st, err
	}
	return st, nil
}

// submitWait bounds a submission: long enough for a server to come back.
const submitWait = 30 * time.Second

func (c *Client) submit(ctx context.Context, prev Status, j jobs.Job) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, submitWait)
	defer cancel()
	for {
		if prev.Revision > 0 && prev.Job.ArgsDigest != j.ArgsDigest {
			return prev, fmt.Errorf("submit: job %s was submitted under this idempotency key with other args: %w", j.ID, errdefs.ErrAlreadyExists)
		}
		st, err := c.open(ctx, prev, jobs.Open{Job: j, At: time.Now().UTC()})
		if err == nil {
			c.Note(st, Event{Phrase: "submitted", Source: j.Submitter})
			return st, nil
		}
		if _, ok := errors.AsType[*jobs.EdgeError](err); ok {
			return c.join(ctx, prev, j)
		}
		if errdefs.IsConflict(err) {
			prev, err = c.Get(ctx, j.ID)
		}
		// An unclear outcome is tried again: if it was written, that is a conflict.
		if err != nil && (errdefs.IsOutOfRange(err) || errors.Is(err, ErrUnreadable) || !c.pause(ctx)) {
			return Status{}, fmt.Errorf("submit: %w", err)
		}
	}
}

// join is a submission of a job that exists: it matters to one more now. One that is
// done is done.
func (c *Client) join(ctx context.Context, st Status, j jobs.Job) (Status, error) {
	for {
		joined, err := c.Apply(ctx, st, jobs.Join{Priority: j.Priority, Direct: j.Parent == "", At: time.Now().UTC()})
		if _, edge := errors.AsType[*jobs.EdgeError](err); edge {
			if st.State != jobs.Running || st.Asked() || j.Parent != "" {
				return st, nil
			}
			joined, err = c.ask(ctx, st)
		}
		switch {
		case err == nil:
			return joined, nil
		case !errdefs.IsConflict(err):
			return st, fmt.Errorf("submit: %w", err)
		}
		if st, err = c.Get(ctx, st.ID); err != nil {
			return st, fmt.Errorf("submit: %w", err)
		}
	}
}

// Asked reports whether somebody asked for a job directly, and not only jobs that wait
// for it.
func (st Status) Asked() bool { return st.Direct || st.Job.Parent == "" }

// ask has it known of a running job that somebody asks for it directly. The record is its
// worker's alone, so the job itself says it, as long as that claim is the last word.
func (c *Client) ask(ctx context.Context, st Status) (Status, error) {
	st.Job.Parent = ""
	spec, err := json.Marshal(st.Job)
	if err != nil {
		return st, err
	}
	if _, err := c.js.Publish(ctx, specSubject(st.ID), spec, jetstream.WithExpectLastSequenceForSubject(st.Revision, runSubject(st.ID))); err != nil {
		return st, refused(fmt.Errorf("write job %s: %w", st.ID, err))
	}
	st.spec = digestOf(spec)
	return st, nil
}

// Cancel ends a job that has not ended. Once it returns no result can be
// committed; a worker that is on it notices within a heartbeat and is told to
// stop. A job that is cancelled already is fine; one that ended otherwise is
// errdefs.ErrFailedPrecondition.
func (c *Client) Cancel(ctx context.Context, id jobs.ID, reason string) (Status, error) {
	for {
		st, err := c.Get(ctx, id)
		if err != nil || st.State == jobs.Cancelled {
			return st, err
		}
		st, err = c.Apply(ctx, st, jobs.Cancel{Reason: reason, At: time.Now().UTC()})
		switch _, edge := errors.AsType[*jobs.EdgeError](err); {
		case err == nil:
			c.Note(st, Event{Phrase: "cancelled", Attrs: map[string]any{"reason": reason}})
			return st, nil
		case edge:
			return st, fmt.Errorf("cancel: job %s is %s: %w", id, st.State, errdefs.ErrFailedPrecondition)
		case !errdefs.IsConflict(err):
			return st, fmt.Errorf("cancel: %w", err)
		}
	}
}
