//go:build linux

package chaos_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

var (
	seed         = flag.Int64("seed", 1, "what the faults, the jobs and their order follow from")
	faults       = flag.Int("faults", 40, "how many faults TestRandomFaults does")
	syncInterval = flag.String("sync", "always", "sync_interval of the server; with its own default, 2m, TestPowerCut fails")
	duration     = flag.Duration("duration", 0, "TestRandomFaults stops with its faults after this, done or not (0: when they are done)")
	rootFlag     = flag.Bool("test.root", false, "run tests that mount disks, as root")
	keepLogs     = flag.Bool("keep", false, "leave the logs of runs that pass, too")
)

// The pool's times are short, so that a run sees many of them pass.
const (
	ackWait = 2 * time.Second
	sweep   = time.Second
	grace   = 300 * time.Millisecond
	slots   = 4
)

// role makes this binary one of the pool's processes.
type role struct {
	Name  string // of a scheduler with s, of a worker with w
	URL   string
	Diary string // file
}

const roleVariable = "LITHIFY_CHAOS_ROLE"

func TestMain(m *testing.M) {
	if raw := os.Getenv(roleVariable); raw != "" {
		if err := play(raw); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		f.Value.Set("12") // those that are parallel wait for leases and claims, not for the processor
	}
	os.Exit(m.Run())
}

// play is what cmd/scheduler and cmd/worker do, with the kinds of these tests.
func play(raw string) error {
	var r role
	if err := json.Unmarshal([]byte(raw), &r); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("process", r.Name)
	client, err := queue.Connect(ctx, queue.Config{URL: r.URL, Name: r.Name, Log: log})
	if err != nil {
		return err
	}
	defer client.Close()
	if strings.HasPrefix(r.Name, "s") {
		return scheduler.New(client, validators, scheduler.Config{AckWait: ackWait, Sweep: sweep, Log: log}).Run(ctx)
	}
	d, err := openDiary(r)
	if err != nil {
		return err
	}
	w, err := worker.New(client, d.mux(), worker.Config{Name: r.Name, Slots: slots, Grace: grace, Silence: 5 * time.Second, Log: log})
	if err != nil {
		return err
	}
	return w.Run(ctx)
}
