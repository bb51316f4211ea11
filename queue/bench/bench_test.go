package bench_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/lithify/lithify/queue/bench"
)

// What is measured depends on the machine; that all of it is measured, and within
// what the pool promises, does not.
func TestRun(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cfg := bench.Config{Dir: t.TempDir(), Jobs: 300, Slots: 8, Rate: 50, For: 200 * time.Millisecond, AckWait: time.Second,
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))}
	var told []string
	r, err := bench.Run(ctx, cfg, func(p bench.Phase) { told = append(told, p.String()) })
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(told, "\n"); len(told) != 5 || !strings.Contains(text, "46,000") || !strings.Contains(text, "300 jobs") {
		t.Errorf("told %q", told)
	}
	if d := r.Dispatch; d.Jobs != 10 || d.FromCall.P50 <= 0 || d.FromCall.P99 < d.FromCall.P50 || d.FromAck.P50 > d.FromCall.P50 || d.Syncs.P50 <= 0 {
		t.Errorf("dispatch %+v", d)
	}
	// The window is 64, the least that the scheduler admits; a slot's message may
	// still be there when its job has ended.
	if d := r.Drain; d.Inserted <= 0 || d.Drained <= 0 || d.WorkDepth == 0 || d.WorkDepth > 64+uint64(cfg.Slots) || d.SchedulerHeap < 0 {
		t.Errorf("drain %+v", d)
	}
	if s := r.Restart; s.Records != 330 || s.Queued != 30 || s.Answers <= 0 || s.Read < s.Answers || s.Dispatched < s.Read {
		t.Errorf("restart %+v", s)
	}
	if d := r.Death; d.Recovered < d.AckWait/2 {
		t.Errorf("a worker's job was taken %v after its death, with an ack wait of %v", d.Recovered, d.AckWait)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
}

// TestFanOut: Run itself checks that each layer ran once and each job that waited ended.
func TestFanOut(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	r, err := bench.Run(ctx, bench.Config{Dir: t.TempDir(), FanOut: 300, Slots: 8}, func(bench.Phase) {})
	if err != nil {
		t.Fatal(err)
	}
	f := r.FanOut
	if f.Parts != 1 || f.Images != 30 || f.Layers != 300 || f.Took <= 0 || f.RSS <= 0 || !strings.Contains(f.String(), "300 layers") {
		t.Errorf("%+v", f)
	}
	if most := uint64(3*64 + 8); f.WorkDepth == 0 || f.WorkDepth > most { // a window for each of three lines
		t.Errorf("%d messages in WORK, want at most %d", f.WorkDepth, most)
	}
}

// TestCancel: Run itself checks that everything ends, and that explanations come meanwhile.
func TestCancel(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	r, err := bench.Run(ctx, bench.Config{Dir: t.TempDir(), FanOut: 300, Cancel: true, Slots: 8}, func(bench.Phase) {})
	if err != nil {
		t.Fatal(err)
	}
	c := r.Cancel
	if c.Layers != 300 || c.Ran < 150 || c.Cancelled == 0 || c.Took <= 0 || !strings.Contains(c.String(), "300 layers") {
		t.Errorf("%+v", c)
	}
}
