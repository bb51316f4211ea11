package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel"
	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/lithify/lithify/telemetry"
)

// collector is a small OTLP receiver over HTTP.
type collector struct {
	mu      sync.Mutex
	hits    int
	traces  []*coltrace.ExportTraceServiceRequest
	metrics []*colmetrics.ExportMetricsServiceRequest
	logs    []*collogs.ExportLogsServiceRequest
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hits++
	body, err := io.ReadAll(r.Body)
	var m proto.Message
	switch r.URL.Path {
	case "/v1/traces":
		t := new(coltrace.ExportTraceServiceRequest)
		m, c.traces = t, append(c.traces, t)
	case "/v1/metrics":
		t := new(colmetrics.ExportMetricsServiceRequest)
		m, c.metrics = t, append(c.metrics, t)
	case "/v1/logs":
		t := new(collogs.ExportLogsServiceRequest)
		m, c.logs = t, append(c.logs, t)
	default:
		http.NotFound(w, r)
		return
	}
	if err != nil || proto.Unmarshal(body, m) != nil {
		http.Error(w, "not OTLP", http.StatusBadRequest)
	}
}

// clearEnv takes away what the tester's own shell exports.
func clearEnv(t *testing.T) {
	for _, kv := range os.Environ() {
		if k, _, _ := strings.Cut(kv, "="); strings.HasPrefix(k, "OTEL_") {
			t.Setenv(k, "") // restores it afterwards
			os.Unsetenv(k)
		}
	}
}

// work does one of each: a span, a count, a line.
func work(t *testing.T, o telemetry.Options) (traceID string) {
	t.Helper()
	shutdown, log, err := telemetry.Setup(t.Context(), "lithify-test", "v9", o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, span := otel.Tracer("test").Start(t.Context(), "convert layer")
	n, err := otel.Meter("test").Int64Counter("layers")
	if err != nil {
		t.Fatal(err)
	}
	n.Add(ctx, 3)
	log.InfoContext(ctx, "layer converted", "auth", telemetry.NewSecret("hunter2"))
	log.DebugContext(ctx, "too much")
	span.End()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	telemetry.Flush(ctx, shutdown) // main's ctx is done by then
	if !span.SpanContext().IsValid() {
		return ""
	}
	return span.SpanContext().TraceID().String()
}

func TestExport(t *testing.T) {
	clearEnv(t)
	var c collector
	srv := httptest.NewServer(&c)
	defer srv.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", srv.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
	var stderr bytes.Buffer
	id := work(t, telemetry.Options{Writer: &stderr})

	if len(c.traces) != 1 || len(c.metrics) == 0 || len(c.logs) != 1 {
		t.Fatalf("received %d traces, %d metrics, %d logs", len(c.traces), len(c.metrics), len(c.logs))
	}
	rs := c.traces[0].ResourceSpans[0]
	if span := rs.ScopeSpans[0].Spans[0]; span.Name != "convert layer" || fmt.Sprintf("%x", span.TraceId) != id {
		t.Errorf("span %v", span)
	}
	attrs := map[string]string{}
	for _, a := range rs.Resource.Attributes {
		attrs[a.Key] = a.Value.GetStringValue()
	}
	if attrs["service.name"] != "lithify-test" || attrs["service.version"] != "v9" || attrs["deployment.environment.name"] != "test" {
		t.Errorf("resource %v", attrs)
	}
	m := c.metrics[0].ResourceMetrics[0].ScopeMetrics[0].Metrics[0]
	if m.Name != "layers" || m.GetSum().DataPoints[0].GetAsInt() != 3 {
		t.Errorf("metric %v", m)
	}
	lines := c.logs[0].ResourceLogs[0].ScopeLogs[0].LogRecords
	if len(lines) != 1 || lines[0].Body.GetStringValue() != "layer converted" || fmt.Sprintf("%x", lines[0].TraceId) != id {
		t.Errorf("log %v", lines)
	}
	if s := c.logs[0].String() + stderr.String(); strings.Contains(s, "hunter2") || !strings.Contains(s, "redacted") {
		t.Errorf("secret in %s", s)
	}
	if !strings.Contains(stderr.String(), "trace_id="+id) {
		t.Errorf("stderr %s", &stderr)
	}
}

// Without a variable, or with the SDK disabled, nothing is sent and nothing said
// but the log.
func TestSilence(t *testing.T) {
	var c collector
	srv := httptest.NewServer(&c)
	defer srv.Close()
	for name, env := range map[string]map[string]string{
		"no variable":    {},
		"only a name":    {"OTEL_SERVICE_NAME": "x"},
		"disabled":       {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": srv.URL},
		"exporters none": {"OTEL_EXPORTER_OTLP_ENDPOINT": srv.URL, "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"},
	} {
		t.Run(name, func(t *testing.T) {
			clearEnv(t)
			for k, v := range env {
				t.Setenv(k, v)
			}
			var stderr bytes.Buffer
			work(t, telemetry.Options{Writer: &stderr})
			if c.hits != 0 {
				t.Errorf("%d requests to the collector", c.hits)
			}
			if lines := strings.Split(strings.TrimSpace(stderr.String()), "\n"); len(lines) != 1 || !strings.Contains(lines[0], `msg="layer converted"`) {
				t.Errorf("stderr %q", lines)
			}
		})
	}
}

func TestDeadCollector(t *testing.T) {
	clearEnv(t)
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", srv.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "200")
	t.Setenv("OTEL_METRICS_EXPORTER", "none")
	t.Setenv("OTEL_LOGS_EXPORTER", "none")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	var stderr bytes.Buffer
	work(t, telemetry.Options{Writer: &stderr})
	if !strings.Contains(stderr.String(), "telemetry not exported") {
		t.Errorf("stderr %s", &stderr)
	}
}

func TestUnknownExporter(t *testing.T) {
	clearEnv(t)
	t.Setenv("OTEL_TRACES_EXPORTER", "pigeon")
	if _, _, err := telemetry.Setup(t.Context(), "x", "v9", telemetry.Options{}); err == nil || !strings.Contains(err.Error(), "pigeon") {
		t.Errorf("got %v", err)
	}
}

func TestLogOptions(t *testing.T) {
	clearEnv(t)
	var out bytes.Buffer
	_, log, err := telemetry.Setup(t.Context(), "x", "v9", telemetry.Options{JSON: true, Level: slog.LevelError, Writer: &out})
	if err != nil {
		t.Fatal(err)
	}
	log.Info("hidden")
	log.With("id", "convert-1").WithGroup("layer").Error("boom", "size", 7)
	var line struct {
		Msg, ID string
		Layer   struct{ Size int }
	}
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Msg != "boom" || line.ID != "convert-1" || line.Layer.Size != 7 {
		t.Errorf("got %s, %v", &out, err)
	}
}

func TestSecret(t *testing.T) {
	s := telemetry.NewSecret("hunter2")
	type holder struct {
		Token telemetry.Secret
		p     *telemetry.Secret
	}
	h := holder{s, &s}
	j, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "s", s, "h", h)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "s", s, "h", h)
	all := fmt.Sprintf("%v %+v %#v %s %q %x %d %v %+v %s %s", s, s, s, s, s, s, s, h, &h, j, &out)
	if strings.Contains(all, "hunter2") || strings.Contains(all, "68756e74657232") {
		t.Errorf("revealed in %s", all)
	}
	if s.Reveal() != "hunter2" {
		t.Error("not to be had at all")
	}
}
