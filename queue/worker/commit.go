package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

const (
	// commitRetry is the pause before a commit is tried again.
	commitRetry = 250 * time.Millisecond
	// commitFloor is left for the commit of a job that used up its deadline.
	commitFloor = 30 * time.Second
	// eventsFlush bounds the wait for the history to be stored before the end is.
	eventsFlush = 2 * time.Second
	// maxMessage bounds a stored error: a tool's output may be part of it.
	maxMessage = 4 << 10
)

// outcomes of an attempt beyond the states of its job.
const (
	outcomeHandedBack = "handed back"
	outcomeLost       = "lost"
	outcomeUnwritten  = "unwritten"
)

// end writes how an attempt ended and answers its message.
func (a *attempt) end(ctx, writes context.Context, result json.RawMessage, err error) (outcome string, _ error) {
	if errors.Is(context.Cause(ctx), ErrLost) {
		return outcomeLost, nil
	}
	if jobs.ClassOf(err) == jobs.ClassResource && err != nil {
		a.w.unfit.Store(time.Now().Add(unfit).UnixNano())
		a.log.WarnContext(ctx, "worker takes no jobs for a while", "for", unfit, "error", err)
	}
	a.flushEvents(writes, err)
	a.ending.Store(true)

	writes, span := otel.Tracer(queue.Scope).Start(trace.ContextWithSpan(writes, trace.SpanFromContext(ctx)), "settle "+queue.WorkTemplate,
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(queue.SpanAttrs(a.st.ID, a.st.Class)...),
		trace.WithAttributes(semconv.MessagingOperationName("settle"), semconv.MessagingOperationTypeSettle))
	defer span.End()
	st, cerr := a.commit(writes, a.edge(ctx, result, err))
	if errdefs.IsOutOfRange(cerr) {
		st, cerr = a.commit(writes, jobs.Fail{Claim: a.st.Revision, At: time.Now().UTC(),
			Failure: jobs.Failure{Class: jobs.ClassPermanent, Kind: jobs.KindOf(cerr), Message: fmt.Sprintf("result of %d bytes is too large for the queue", len(result))}})
	}
	switch {
	case errdefs.IsConflict(cerr):
		return outcomeLost, nil // neither ack nor nak: the message is another's
	case cerr != nil:
		return outcomeUnwritten, cerr
	case st.State == jobs.Queued:
		a.w.ignore(a.d.Nak())
		return outcomeHandedBack, nil
	case st.State == jobs.Failed || st.State == jobs.Dead:
		a.w.ignore(a.d.TermWithReason(st.Failure.Message))
	default:
		a.w.ignore(a.d.Ack()) // its record says all: if the ack is lost, the message comes again and finds it
	}
	return string(st.State), nil
}

// edge is how the job goes on after the handler returned.
func (a *attempt) edge(ctx context.Context, result json.RawMessage, err error) jobs.Edge {
	now, claim, cause := time.Now().UTC(), a.st.Revision, context.Cause(ctx)
	switch {
	case err == nil && len(a.children) > 0:
		return jobs.Wait{Claim: claim, Children: a.children, At: now}
	case err == nil:
		return jobs.Finish{Claim: claim, Result: result, At: now}
	}
	f := jobs.Failure{Class: jobs.ClassOf(err), Kind: jobs.KindOf(err), Message: clip(err.Error())}
	delay, _ := jobs.RetryDelay(err)
	switch {
	case f.Class == jobs.ClassPermanent:
	case errors.Is(cause, ErrDraining):
		return jobs.HandBack{Claim: claim, At: now}
	case errors.Is(cause, ErrDeadline):
		f = jobs.Failure{Class: jobs.ClassPermanent, Kind: jobs.KindDeadlineExceeded, Message: clip("deadline passed: " + err.Error())}
	case errors.Is(cause, ErrStalled):
		f = jobs.Failure{Class: jobs.ClassTransient, Kind: jobs.KindDeadlineExceeded, Message: clip(cause.Error())}
	}
	return jobs.Fail{Claim: claim, Failure: f, Delay: delay, At: now}
}

func clip(s string) string {
	if len(s) > maxMessage {
		return s[:maxMessage] + " ..."
	}
	return s
}

// commit writes an edge from our claim, for as long as it takes the server to
// come back: the work is done, only its record is missing. It is
// errdefs.ErrConflict if the claim is not ours any more.
func (a *attempt) commit(ctx context.Context, e jobs.Edge) (queue.Status, error) {
	until := a.st.Deadline
	if least := time.Now().Add(commitFloor); until.Before(least) {
		until = least
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	defer a.life.begin(time.Until(until), "commit")()
	for {
		st, err := a.w.client.Apply(ctx, a.st, e)
		if errdefs.IsConflict(err) {
			return a.landed(ctx, err)
		}
		if err == nil || errdefs.IsOutOfRange(err) || ctx.Err() != nil {
			return st, err
		}
		a.log.WarnContext(ctx, "result not written yet", "error", err)
		select {
		case <-time.After(commitRetry):
		case <-ctx.Done():
			return a.st, err
		}
	}
}

// landed tells a claim that was lost from an earlier write of ours whose answer was.
func (a *attempt) landed(ctx context.Context, conflict error) (queue.Status, error) {
	now, err := a.w.client.GetAt(ctx, a.st.ID, a.st.Revision+1)
	if err == nil && now.Claim == a.st.Revision && now.Worker == a.w.cfg.Name {
		return now, nil
	}
	return a.st, conflict
}

// flushEvents notes the end of the attempt and waits until history and log up to
// here are stored, so that a watcher who sees the end has seen all.
func (a *attempt) flushEvents(ctx context.Context, err error) {
	if err != nil {
		a.Event("attempt failed", "error", clip(err.Error()), "class", string(jobs.ClassOf(err)))
	} else {
		a.Event("attempt finished")
	}
	ctx, cancel := context.WithTimeout(ctx, eventsFlush)
	defer cancel()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range []jetstream.PubAckFuture{a.lastLog, a.last} {
		if f == nil {
			continue
		}
		select {
		case <-f.Ok():
		case <-f.Err():
		case <-ctx.Done():
		}
	}
}
