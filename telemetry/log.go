package telemetry

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"os"

	"go.opentelemetry.io/otel/trace"
)

func (o Options) level() slog.Level {
	if o.Verbose {
		return slog.LevelDebug
	}
	return o.Level
}

func (o Options) handler() slog.Handler {
	w := cmp.Or[io.Writer](o.Writer, os.Stderr)
	opts := &slog.HandlerOptions{Level: o.level()}
	if o.JSON {
		return traced{slog.NewJSONHandler(w, opts)}
	}
	return traced{slog.NewTextHandler(w, opts)}
}

// traced adds the ids of the active span to a line.
type traced struct{ slog.Handler }

func (h traced) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r = r.Clone()
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h traced) WithAttrs(as []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(as)} }
func (h traced) WithGroup(name string) slog.Handler    { return traced{h.Handler.WithGroup(name)} }

// atLeast keeps what the log does not show from the collector, too.
type atLeast struct {
	slog.Handler
	level slog.Level
}

func (h atLeast) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.level && h.Handler.Enabled(ctx, l)
}

func (h atLeast) WithAttrs(as []slog.Attr) slog.Handler {
	return atLeast{h.Handler.WithAttrs(as), h.level}
}

func (h atLeast) WithGroup(name string) slog.Handler {
	return atLeast{h.Handler.WithGroup(name), h.level}
}
