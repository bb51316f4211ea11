//go:build linux

package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/natsd"
	"github.com/lithify/lithify/test/chaos/history"
)

// TestDiskFull has the server's disk fill up under load. What was acknowledged is not
// lost, and once there is room the pool needs a restart of the server to go on; one
// that was restarted too early needs another.
func TestDiskFull(t *testing.T) {
	if testing.Short() {
		t.Skip("a submission that is refused takes 30 s: run without -short")
	}
	for name, early := range map[string]bool{"restarted when there is room": false, "restarted too early": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDisk(t, 64)
			w := newWorld(t, d.at)
			for _, name := range []string{"s1", "w1", "w2", "w3"} {
				w.node(name)
			}
			stop := w.load(4)
			w.submitted(50)
			f := history.Fault{Kind: history.Full, Victim: history.Server, From: time.Now()}
			d.fill()
			w.serverSays(1, full)
			if early {
				w.server.end(syscall.SIGKILL, 0)
				w.serverSays(2, full)
			} else if _, err := w.direct.Submit(t.Context(), job(step{Key: "refused"})); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "disk") {
				t.Errorf("a submission to a full disk: %v", err)
			}
			d.free()
			w.server.end(syscall.SIGTERM, 0)
			f.Until = time.Now()
			w.log.fault(f)
			w.submitted(len(w.log.snapshot().Submissions) + 50)
			stop()
			w.finish()
		})
	}
}

// full is what the server says when it stores nothing more in STATE.
const full = "Filestore [STATE] Critical write error"

// serverSays waits until the server's log has a text of one of its lives.
func (w *world) serverSays(life int, text string) {
	w.t.Helper()
	w.until(text, func(context.Context) error {
		log, err := os.ReadFile(w.server.log.Name())
		if _, of, _ := strings.Cut(string(log), fmt.Sprint("begins life ", life)); err == nil && !strings.Contains(of, text) {
			return errors.New("not in the server's log")
		}
		return err
	})
}

// TestEmbeddedServersDiskFull has the disk of the server that is part of lithify serve
// fill up. When there is room the server goes on by itself.
func TestEmbeddedServersDiskFull(t *testing.T) {
	t.Parallel()
	d := newDisk(t, 64)
	s, err := natsd.Start(natsd.Config{Dir: filepath.Join(d.at, "store"), InProcess: true, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	c, err := queue.Connect(t.Context(), s.Client())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	var accepted []jobs.ID
	submit := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		st, err := c.Submit(ctx, job(step{Key: fmt.Sprint(len(accepted))}))
		if err == nil {
			accepted = append(accepted, st.ID)
		}
		return err
	}
	for range 10 {
		if err := submit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	d.fill()
	for submit(t.Context()) == nil { // in what is left of a block
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := c.JetStream().Publish(ctx, "st.large", make([]byte, 200<<10)); err == nil { // not only the copy of a batch
		t.Error("stored on a full disk")
	}
	d.free()
	until(t, "submission after there was room", submit)
	for _, id := range accepted {
		if _, err := c.Get(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

// TestWorkersDiskFull has a job need room that its worker has not. It is put off, which
// costs no attempt, and is done once there is room.
func TestWorkersDiskFull(t *testing.T) {
	if testing.Short() {
		t.Skip("a worker that lacks room takes no job for 30 s: run without -short")
	}
	t.Parallel()
	d := newDisk(t, 16)
	w := newWorld(t, "")
	w.node("s1")
	w.node("w1")
	d.fill()
	l, j := w.newLoad("load", 0), job(step{Key: "wide", Dir: d.at})
	l.submit(t.Context(), j, history.Done)
	w.state(j.ID, jobs.Retry)
	d.free()
	if st := w.state(j.ID, jobs.Done); st.Attempt != 1 {
		t.Errorf("got %+v, want one attempt", st.Record)
	}
	w.finish()
}

// state waits until a job is in a state.
func (w *world) state(id jobs.ID, want jobs.State) (st queue.Status) {
	w.t.Helper()
	w.until(fmt.Sprintf("job that is %s", want), func(ctx context.Context) (err error) {
		if st, err = w.direct.Get(ctx, id); err == nil && st.State != want {
			return fmt.Errorf("it is %s", st.State)
		}
		return err
	})
	return st
}
