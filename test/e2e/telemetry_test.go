//go:build linux

package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/lithify/lithify/test/corpus"
)

const collectorConfig = `receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:0"}}}}
exporters: {debug: {verbosity: detailed}}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], exporters: [debug]}
    metrics: {receivers: [otlp], exporters: [debug]}
    logs: {receivers: [otlp], exporters: [debug]}
`

var (
	serving = regexp.MustCompile(`Starting GRPC server.*"endpoint": "([^"]+)"`)
	item    = regexp.MustCompile(`^\s*(Span|Metric|Exemplar|LogRecord) #\d+`)
)

// startCollector runs the OpenTelemetry collector, which writes what it receives
// to its output, and has the programs started from now on send to it.
func startCollector(t *testing.T) *process {
	t.Helper()
	config := filepath.Join(t.TempDir(), "otelcol.yml")
	if err := os.WriteFile(config, []byte(collectorConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	collector := start(t, command(t, need(t, "otelcol"), "--config", config))
	address := collector.says(t, "address", func(line string) (string, bool) {
		m := serving.FindStringSubmatch(line)
		if m == nil {
			return "", false
		}
		return m[1], true
	})
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+address)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100") // ms
	t.Setenv("OTEL_BLRP_SCHEDULE_DELAY", "100")
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "500")
	return collector
}

// span is what the collector says of one.
type span struct{ trace, name, link string }

// TestCollector follows a job of the pool through a real collector: one trace for
// each attempt, of the image and of its layers, down to their requests and linked
// to the submission's.
func TestCollector(t *testing.T) {
	registry := startRegistry(t)
	src := registry + "/traced:tar"
	push(t, probeImage(t, "application/vnd.oci.image.layer.v1.tar+gzip", corpus.Linked), src)
	collector := startCollector(t)
	p := startPool(t, 1)
	// Beside the test, which must read what the collector says as it comes.
	start(t, p.command(t, lithify(t), "submit", "convert", "--wait", "--insecure", src, registry+"/traced:pool"))

	var spans []span
	var inSpan, metric, log bool
	collector.says(t, "whole trace", func(line string) (string, bool) {
		// An exemplar and a line of the log name a trace, too.
		if m := item.FindStringSubmatch(line); m != nil {
			inSpan = m[1] == "Span"
			if inSpan {
				spans = append(spans, span{})
			}
		}
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch key = strings.TrimSpace(key); {
		case inSpan && key == "Trace ID":
			spans[len(spans)-1].trace = value
		case inSpan && key == "-> Trace ID":
			spans[len(spans)-1].link = value
		case inSpan && key == "Name":
			spans[len(spans)-1].name = value
		case key == "-> Name":
			metric = metric || strings.HasPrefix(value, "lithify.")
		case key == "Body":
			log = log || value == "Str(job ended)"
		}
		batch := strings.Contains(line, `"otelcol.signal"`)
		return "", batch && metric && log && whole(spans)
	})
}

// whole reports whether there are attempts of the image and of its layers, each
// linked to its submission, with all that belongs to them.
func whole(spans []span) bool {
	submissions := map[string]bool{}
	for _, s := range spans {
		if strings.HasPrefix(s.name, "publish ") {
			submissions[s.trace] = true
		}
	}
	attempts := map[string]bool{}
	for _, s := range spans {
		if strings.HasPrefix(s.name, "process ") && submissions[s.link] {
			attempts[s.trace] = true
		}
	}
	n := map[string]int{}
	for _, s := range spans {
		if attempts[s.trace] {
			name, _, _ := strings.Cut(s.name, " ")
			n[name]++
		}
	}
	return n["convert"] > 1 && n["layer"] > 1 && n["GET"] > 0 && n["PUT"] > 0
}
