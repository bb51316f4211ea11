package queue

import (
	"context"
	"maps"
	"slices"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/lithify/lithify/jobs"
)

// Scope is the instrumentation scope of the queue's spans and metrics.
const Scope = "github.com/lithify/lithify/queue"

// Carrier puts W3C trace context into NATS headers. nats.Header keeps the case
// of its keys, so they stay traceparent, tracestate and baggage.
type Carrier nats.Header

// Get is the first value of key.
func (c Carrier) Get(key string) string { return nats.Header(c).Get(key) }

// Set replaces the value of key.
func (c Carrier) Set(key, value string) { nats.Header(c).Set(key, value) }

// Keys are the keys set.
func (c Carrier) Keys() []string { return slices.Collect(maps.Keys(c)) }

// SpanAttrs are the attributes of every span about a job.
func SpanAttrs(id jobs.ID, class jobs.Class) []attribute.KeyValue {
	return []attribute.KeyValue{
		semconv.MessagingSystemKey.String("nats"),
		semconv.MessagingDestinationTemplate(WorkTemplate),
		semconv.MessagingMessageID(string(id)),
		attribute.String("lithify.job.kind", class.Kind),
		attribute.String("lithify.job.class", class.String()),
	}
}

// Link points from an attempt's trace to the submission's. An attempt is a trace
// of its own: it may come hours later, again, and for more than one submission.
func Link(carrier propagation.TextMapCarrier) (trace.Link, bool) {
	ctx := otel.GetTextMapPropagator().Extract(context.Background(), carrier)
	sc := trace.SpanContextFromContext(ctx)
	return trace.Link{SpanContext: sc}, sc.IsValid()
}

func startSubmit(ctx context.Context, j jobs.Job) (context.Context, trace.Span) {
	return otel.Tracer(Scope).Start(ctx, "publish "+WorkTemplate, trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(SpanAttrs(j.ID, j.Class)...),
		trace.WithAttributes(semconv.MessagingOperationName("publish"), semconv.MessagingOperationTypeSend))
}
