package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/lithify/lithify/queue/bench"
)

func TestBenchQueue(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	code, stdout, stderr := lithify(t, "bench", "queue", "--output", "json", "--dir", dir, "--jobs", "20", "--slots", "4", "--for", "100ms", "--ack-wait", "500ms")
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	var r bench.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v: %s", err, stdout)
	}
	if !r.Machine.Embedded || !strings.HasPrefix(r.Machine.Dir, dir) || r.Drain.Jobs != 20 || r.Drain.Drained <= 0 || r.Death.Recovered <= 0 {
		t.Errorf("report %+v", r)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if code, _, _ := lithify(t, "bench", "queue", "--nats", "nats://127.0.0.1:1"); code != 5 {
		t.Errorf("exit code %d of a server that is not there, want 5", code)
	}
}
