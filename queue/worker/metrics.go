package worker

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/lithify/lithify/queue"
)

// metrics are by kind and outcome, never by job.
type metrics struct {
	completed metric.Int64Counter
	duration  metric.Float64Histogram
	running   metric.Int64UpDownCounter
}

func newMetrics() (m metrics, err error) {
	meter := otel.Meter(queue.Scope)
	var errs [3]error
	m.completed, errs[0] = meter.Int64Counter("lithify.jobs.completed", metric.WithUnit("{attempt}"),
		metric.WithDescription("Attempts that ended, by kind and outcome"))
	m.duration, errs[1] = meter.Float64Histogram("messaging.process.duration", metric.WithUnit("s"),
		metric.WithDescription("How long an attempt took, by kind and outcome"),
		metric.WithExplicitBucketBoundaries(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 3600)) // jobs take a second to an hour
	m.running, errs[2] = meter.Int64UpDownCounter("lithify.jobs.running", metric.WithUnit("{job}"),
		metric.WithDescription("Jobs being run, by kind"))
	return m, errors.Join(errs[:]...)
}

// start counts a running attempt; the returned function ends it.
func (m metrics) start(ctx context.Context, kind string) func(outcome string) {
	began, k := time.Now(), attribute.String("kind", kind)
	m.running.Add(ctx, 1, metric.WithAttributes(k))
	return func(outcome string) {
		m.running.Add(ctx, -1, metric.WithAttributes(k))
		set := metric.WithAttributeSet(attribute.NewSet(k, attribute.String("outcome", outcome)))
		m.completed.Add(ctx, 1, set)
		m.duration.Record(ctx, time.Since(began).Seconds(), set)
	}
}
