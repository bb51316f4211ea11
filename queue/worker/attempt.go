package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// attempt is one claim on a job, from the claim to the ack. It is the handler's
// jobs.Reporter.
type attempt struct {
	w    *Worker
	d    delivery
	st   queue.Status // as claimed
	log  *slog.Logger
	life life

	children []jobs.ID   // that the job is to wait for
	ending   atomic.Bool // the next write of the record is ours, and finds out by itself whether we may

	mu      sync.Mutex
	last    jetstream.PubAckFuture // of the last event
	lastLog jetstream.PubAckFuture // of the last that was printed
}

// Alive implements jobs.Reporter.
func (a *attempt) Alive(n int64) { a.life.beat(n) }

// Quiet implements jobs.Reporter.
func (a *attempt) Quiet(bound time.Duration, why string) func() { return a.life.begin(bound, why) }

// Event implements jobs.Reporter.
func (a *attempt) Event(phrase string, attrs ...any) {
	a.life.beat(0)
	f := a.w.client.Note(a.st, queue.Event{Source: a.w.cfg.Name, Phrase: phrase, Attrs: queue.Attrs(attrs...)})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = f
}

// Log implements jobs.Reporter.
func (a *attempt) Log(p []byte) {
	a.life.beat(0)
	a.mu.Lock() // parts of a long one stay together
	defer a.mu.Unlock()
	if f := a.w.client.Log(a.st, p); f != nil {
		a.lastLog = f
	}
}

// run works under work, and writes under writes, which ends later.
func (a *attempt) run(work, writes context.Context) {
	ctx, span := a.startSpan(work)
	defer span.End()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ctx, stop := context.WithDeadlineCause(ctx, a.st.Deadline, ErrDeadline)
	defer stop()
	measured := a.w.metrics.start(ctx, a.st.Class.Kind)
	began := time.Now()

	a.Event("attempt started")
	a.log.InfoContext(ctx, "job started")
	beats, stopBeats := context.WithCancel(writes)
	var heart sync.WaitGroup
	heart.Go(func() { a.heartbeat(beats, cancel) })

	result, err := a.call(jobs.WithTenant(jobs.WithID(jobs.WithReporter(ctx, a), a.st.ID), a.st.Tenant))
	outcome, cerr := a.end(ctx, writes, result, err)
	stopBeats()
	heart.Wait()

	attrs := []any{"outcome", outcome, "took", time.Since(began).Round(time.Millisecond), "bytes", a.life.bytes.Load()}
	if err = errors.Join(err, cerr); err != nil {
		attrs = append(attrs, "error", err)
		span.SetStatus(codes.Error, err.Error())
	}
	span.SetAttributes(attribute.String("lithify.job.outcome", outcome))
	a.log.InfoContext(ctx, "job ended", attrs...)
	measured(outcome)
}

func (a *attempt) startSpan(ctx context.Context) (context.Context, trace.Span) {
	opts := []trace.SpanStartOption{trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(queue.SpanAttrs(a.st.ID, a.st.Class)...),
		trace.WithAttributes(semconv.MessagingOperationName("process"), semconv.MessagingOperationTypeProcess,
			semconv.MessagingConsumerGroupName(queue.LineOf(a.st.Record).Consumer()), attribute.Int("lithify.job.attempt", a.st.Attempt))}
	link, ok := queue.Link(queue.Carrier(a.d.Headers()))
	if !ok { // published by a sweep, or by a scheduler without telemetry
		link, ok = queue.Link(propagation.MapCarrier(a.st.Job.Trace))
	}
	if ok {
		opts = append(opts, trace.WithLinks(link))
	}
	return otel.Tracer(queue.Scope).Start(ctx, "process "+queue.WorkTemplate, opts...)
}

// call runs the handler. A panic fails this attempt only: the other slots' jobs
// are innocent, and a job that panics again is dead.
func (a *attempt) call(ctx context.Context) (result json.RawMessage, err error) {
	defer func() {
		if p := recover(); p != nil {
			a.log.ErrorContext(ctx, "handler panicked", "panic", p, "stack", string(debug.Stack()))
			err = jobs.Poison(fmt.Errorf("handler panicked: %v", p))
		}
	}()
	if ctx, err = a.withChildren(ctx); err != nil {
		return nil, err
	}
	result, err = a.w.mux.Run(ctx, a.st.Job.Kind, a.st.Job.Args)
	if children, ok := jobs.Awaited(err); ok {
		return nil, a.submit(ctx, children, jobs.Known(err))
	}
	return result, err
}

// submitPart children are submitted between two signs of life.
const submitPart = 500

// submit makes sure that what the job will wait for exists: only then may its
// record say that it waits. Those that have a result, or are on their way, stay as
// they are; those that ended without one are opened again.
// Of those that it knows nothing is done.
func (a *attempt) submit(ctx context.Context, children []jobs.Job, known []jobs.ID) error {
	ids := slices.Clone(known)
	for _, j := range children {
		ids = append(ids, j.ID)
	}
	if err := fit(ids); err != nil {
		return jobs.Permanent(err)
	}
	children = slices.Clone(children)
	for i := range children {
		j := &children[i]
		if j.ID == a.st.ID {
			return jobs.Permanent(errors.New("it waits for itself"))
		}
		j.Priority, j.Tenant, j.Parent = a.st.Priority, a.st.Tenant, a.st.ID
	}
	for part := range slices.Chunk(children, submitPart) {
		_, err := a.w.client.SubmitAll(ctx, part)
		if errdefs.IsOutOfRange(err) { // and stays so
			return jobs.Permanent(err)
		}
		if err != nil {
			return err
		}
		a.life.beat(0)
	}
	a.children = ids
	a.Event("waiting for other jobs", "jobs", len(children))
	return nil
}

// maxChildrenBytes of a record may be IDs of what its job waits for: it goes on to be
// written with them, and with what the job says of its end.
const maxChildrenBytes = 192 << 10

// fit reports what is too much for a job to wait for.
func fit(children []jobs.ID) error {
	size := 0
	for _, id := range children {
		size += len(id) + len(`"",`)
	}
	switch {
	case len(children) > jobs.MaxChildren:
		return fmt.Errorf("it waits for %d jobs at once, more than %d", len(children), jobs.MaxChildren)
	case size > maxChildrenBytes:
		return fmt.Errorf("it waits for %d jobs at once, whose IDs are %d bytes, more than %d", len(children), size, maxChildrenBytes)
	}
	return nil
}

// withChildren lets the handler know how those that the job waited for have ended.
func (a *attempt) withChildren(ctx context.Context) (context.Context, error) {
	if len(a.st.Children) == 0 {
		return ctx, nil
	}
	found, err := a.w.client.GetAll(ctx, a.st.Children, a.st.ID, a.st.Revision)
	if err != nil {
		return ctx, err
	}
	children := make(map[jobs.ID]jobs.Child, len(found))
	for id, st := range found {
		children[id] = jobs.Child{Job: st.Job, Record: st.Record}
	}
	return jobs.WithChildren(ctx, children), nil
}

// firstLook at the claim of a job that takes so long is for the hints that came
// before the server heard that this worker listens.
const firstLook = time.Second

// heartbeat keeps the message ours as long as the handler proves that it lives
// and the claim holds; else it cancels the handler and stops.
func (a *attempt) heartbeat(ctx context.Context, cancel context.CancelCauseFunc) {
	defer a.w.keep(a.st)()
	hint := make(chan struct{}, 1)
	if stop, err := a.w.client.Hint(a.st.ID, func() {
		if a.ending.Load() {
			return
		}
		select {
		case hint <- struct{}{}:
		default:
		}
	}); err == nil {
		defer stop()
	}
	first := time.NewTimer(firstLook)
	defer first.Stop()
	tick := time.NewTicker(min(a.d.ackWait, a.w.cfg.Silence) / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hint:
		case <-first.C:
		case <-tick.C:
		}
		if d, phase := a.life.silent(time.Now()); d > a.w.cfg.Silence {
			err := fmt.Errorf("%w for %v", ErrStalled, d.Round(time.Millisecond))
			if phase != "" {
				err = fmt.Errorf("%w after the bound of %q", err, phase)
			}
			cancel(err)
			return
		}
		if held, err := a.holds(ctx); err != nil {
			continue // not reached: what is not known to be ours is not prolonged
		} else if !held {
			cancel(ErrLost)
			return
		}
		a.w.ignore(a.d.InProgress())
	}
}

func (a *attempt) holds(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, a.d.ackWait/4)
	defer cancel()
	return a.w.client.Holds(ctx, a.st)
}
