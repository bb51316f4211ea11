package queue_test

import (
	"context"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// The global providers of all tests of this package: the tests that look use
// their own job's spans and kinds only.
var (
	spans  = tracetest.NewInMemoryExporter()
	points = sdkmetric.NewManualReader()
)

func init() {
	if os.Getenv("LITHIFY_TEST_WORKER") != "" {
		return
	}
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)))
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(points)))
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
}

func TestCarrier(t *testing.T) {
	h := nats.Header{"Nats-Msg-Id": {"x"}}
	ctx, span := otel.Tracer("test").Start(t.Context(), "x")
	defer span.End()
	otel.GetTextMapPropagator().Inject(ctx, queue.Carrier(h))
	if len(h["traceparent"]) != 1 {
		t.Errorf("headers %v", h)
	}
	if link, ok := queue.Link(queue.Carrier(h)); !ok || link.SpanContext.TraceID() != span.SpanContext().TraceID() {
		t.Errorf("link %v", link)
	}
	if _, ok := queue.Link(queue.Carrier(nats.Header{"traceparent": {"garbage"}})); ok {
		t.Error("a link out of garbage")
	}
}

// An attempt is a trace of its own that links to the submission's.
func TestTraceLinksAttemptToSubmission(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{})
	var inner trace.SpanContext
	stop := p.worker(handle(func(ctx context.Context, _ testArgs) (any, error) {
		inner = trace.SpanContextFromContext(ctx)
		return nil, nil
	}), worker.Config{Name: "w1"})
	ctx, parent := otel.Tracer("test").Start(t.Context(), "user")
	j, err := jobs.New(testArgs{}, jobs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Submit(ctx, j); err != nil {
		t.Fatal(err)
	}
	parent.End()
	p.waitState(j.ID, jobs.Done)
	stop() // its span ends after the record

	mine := map[string]tracetest.SpanStub{}
	for _, s := range spans.GetSpans() {
		for _, a := range s.Attributes {
			if a.Key == "messaging.message.id" && a.Value.AsString() == string(j.ID) {
				mine[s.Name[:7]] = s
			}
		}
	}
	publish, process, settle := mine["publish"], mine["process"], mine["settle "]
	if publish.SpanKind != trace.SpanKindProducer || publish.SpanContext.TraceID() != parent.SpanContext().TraceID() {
		t.Errorf("publish %+v", publish)
	}
	if process.SpanKind != trace.SpanKindConsumer || process.Parent.IsValid() || process.SpanContext.TraceID() == publish.SpanContext.TraceID() {
		t.Errorf("process %+v", process)
	}
	if len(process.Links) != 1 || process.Links[0].SpanContext.SpanID() != publish.SpanContext.SpanID() {
		t.Errorf("links %+v, want the publish span", process.Links)
	}
	if settle.SpanKind != trace.SpanKindClient || settle.Parent.SpanID() != process.SpanContext.SpanID() {
		t.Errorf("settle %+v", settle)
	}
	if inner.SpanID() != process.SpanContext.SpanID() {
		t.Error("the handler is not inside the process span")
	}
}

type meteredArgs struct{}

func (meteredArgs) Kind() string    { return "metered" }
func (meteredArgs) Validate() error { return nil }

func TestMetrics(t *testing.T) {
	p := newPool(t)
	v := scheduler.Validators{"metered": jobs.Validator[meteredArgs]()}
	p.run("scheduler", scheduler.New(p.connect("scheduler"), v, scheduler.Config{}).Run)
	var m jobs.Mux
	jobs.Handle(&m, func(context.Context, meteredArgs) (any, error) { return nil, nil })
	stop := p.worker(&m, worker.Config{Name: "w1"})
	for range 3 {
		p.waitState(p.submit(meteredArgs{}, jobs.Options{}).ID, jobs.Done)
	}
	stop()
	var rm metricdata.ResourceMetrics
	if err := points.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, pt := range d.DataPoints {
					if k, _ := pt.Attributes.Value("kind"); k.AsString() == "metered" {
						got[m.Name] = pt.Value
					}
				}
			case metricdata.Histogram[float64]:
				for _, pt := range d.DataPoints {
					if k, _ := pt.Attributes.Value("kind"); k.AsString() == "metered" {
						got[m.Name] = int64(pt.Count)
					}
				}
			}
		}
	}
	want := map[string]int64{"lithify.jobs.completed": 3, "lithify.jobs.running": 0, "messaging.process.duration": 3}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("-got +want:\n%s", diff)
	}
}
