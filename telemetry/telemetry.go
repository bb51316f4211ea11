// Package telemetry sets up logs, traces and metrics for a program, once, in main:
//
//	shutdown, log, err := telemetry.Setup(ctx, "lithify-worker", telemetry.Version(), telemetry.Options{})
//	defer telemetry.Flush(ctx, shutdown)
//
// Logs go to stderr. Nothing is exported, and nothing tried, unless an OTEL_*
// variable names an exporter or an endpoint; then the standard variables of
// OpenTelemetry decide, for each signal.
package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// Options are the optional parts of Setup; the zero value logs text from Info on to stderr.
type Options struct {
	Level   slog.Level
	Verbose bool      // everything, whatever Level says
	JSON    bool      // lines of JSON
	Writer  io.Writer // default os.Stderr
}

// Setup installs the global OpenTelemetry providers and propagators and gives
// the program's logger. Call shutdown before the program ends: it sends what is
// left. Variables that ask for what does not exist are an error.
func Setup(ctx context.Context, service, version string, o Options) (shutdown func(context.Context) error, log *slog.Logger, err error) {
	stderr := o.handler()
	local := slog.New(stderr)
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { local.Warn("telemetry not exported", "error", err) }))

	res, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(semconv.ServiceName(service), semconv.ServiceVersion(version)), resource.WithFromEnv())
	if err != nil {
		return nil, nil, fmt.Errorf("telemetry: %w", err)
	}
	var p providers
	if err := p.start(ctx, res); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("telemetry: %w", err), p.shutdown(ctx))
	}
	if p.logs != nil {
		bridge := otelslog.NewHandler(service, otelslog.WithLoggerProvider(p.logs))
		return p.shutdown, slog.New(slog.NewMultiHandler(stderr, atLeast{bridge, o.level()})), nil
	}
	return p.shutdown, local, nil
}

// flushTimeout bounds what a dead collector can add to a program's end.
const flushTimeout = 5 * time.Second

// Flush calls shutdown, for main's defer: bounded, and also when ctx is done. A
// collector that is away is reported on stderr by the logger, not here.
func Flush(ctx context.Context, shutdown func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if err := shutdown(ctx); err != nil {
		otel.Handle(err)
	}
}

// Version is the version of this binary's module, or the commit it was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return cmp.Or(info.Main.Version, "unknown")
}

// providers are those of the signals that are exported.
type providers struct {
	traces  *sdktrace.TracerProvider
	metrics *sdkmetric.MeterProvider
	logs    *sdklog.LoggerProvider
}

func (p *providers) start(ctx context.Context, res *resource.Resource) error {
	if exported("TRACES") {
		e, err := autoexport.NewSpanExporter(ctx)
		if err != nil {
			return exportError("TRACES", err)
		}
		p.traces = sdktrace.NewTracerProvider(sdktrace.WithBatcher(e), sdktrace.WithResource(res))
		otel.SetTracerProvider(p.traces)
	}
	if exported("METRICS") {
		r, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			return exportError("METRICS", err)
		}
		p.metrics = sdkmetric.NewMeterProvider(sdkmetric.WithReader(r), sdkmetric.WithResource(res))
		otel.SetMeterProvider(p.metrics)
	}
	if exported("LOGS") {
		e, err := autoexport.NewLogExporter(ctx)
		if err != nil {
			return exportError("LOGS", err)
		}
		p.logs = sdklog.NewLoggerProvider(sdklog.WithProcessor(sdklog.NewBatchProcessor(e)), sdklog.WithResource(res))
		otel.SetLoggerProvider(p.logs)
	}
	return nil
}

func (p *providers) shutdown(ctx context.Context) error {
	var errs []error
	if p.traces != nil {
		errs = append(errs, p.traces.Shutdown(ctx))
	}
	if p.metrics != nil {
		errs = append(errs, p.metrics.Shutdown(ctx))
	}
	if p.logs != nil {
		errs = append(errs, p.logs.Shutdown(ctx))
	}
	return errors.Join(errs...)
}

// exportError adds what the exporters' own errors leave out: what was asked for.
func exportError(signal string, err error) error {
	return fmt.Errorf("export %s (OTEL_%s_EXPORTER=%q): %w", strings.ToLower(signal), signal, os.Getenv("OTEL_"+signal+"_EXPORTER"), err)
}

// exported reports whether the environment asks for a signal. The exporters' own
// default is a collector on this host, which nearly no host has.
func exported(signal string) bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	if e := os.Getenv("OTEL_" + signal + "_EXPORTER"); e != "" {
		return e != "none"
	}
	return cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT")) != ""
}
