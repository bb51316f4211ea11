package jobs

import (
	"context"
	"time"
)

// Reporter receives what a running handler says. A worker is one; a command
// line that draws progress may be another. Methods are called from any
// goroutine of the handler, often, and return at once.
type Reporter interface {
	Alive(n int64)
	Quiet(bound time.Duration, why string) (end func())
	Event(phrase string, attrs ...any)
	Log(p []byte)
}

type reporterKey struct{}

// WithReporter makes r hear what is said under the returned context.
func WithReporter(ctx context.Context, r Reporter) context.Context {
	return context.WithValue(ctx, reporterKey{}, r)
}

// Alive is proof of life: n more bytes were moved. A job that gives none for a
// minute, outside a [Quiet] phase, loses its claim.
func Alive(ctx context.Context, n int64) {
	if r, ok := ctx.Value(reporterKey{}).(Reporter); ok {
		r.Alive(n)
	}
}

// Quiet declares a phase without proof of life, at most bound long: a command
// that prints nothing, a registry that composes a large upload. Call end when it is over.
func Quiet(ctx context.Context, bound time.Duration, why string) (end func()) {
	if r, ok := ctx.Value(reporterKey{}).(Reporter); ok {
		return r.Quiet(bound, why)
	}
	return func() {}
}

// Event adds a line to the job's history, for people who watch it: a fixed
// lower-case phrase and key-value pairs as in log/slog. It is also proof of life.
func Event(ctx context.Context, phrase string, attrs ...any) {
	if r, ok := ctx.Value(reporterKey{}).(Reporter); ok {
		r.Event(phrase, attrs...)
	}
}

// Log adds to what the job printed, for people who follow it: whole lines, whose
// format is the kind's. p is copied. It is also proof of life.
func Log(ctx context.Context, p []byte) {
	if r, ok := ctx.Value(reporterKey{}).(Reporter); ok {
		r.Log(p)
	}
}
