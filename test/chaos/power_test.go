//go:build linux

package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestPowerCut has the power of the server's machine fail under load, again and again.
// Nothing is lost that was acknowledged: it is on the disk by then.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	const between = 50 // submissions before the first cut, between two, and after the last
	cuts := 10
	if testing.Short() {
		cuts = 1
	}
	d := newDisk(t, 512)
	w := newWorld(t, d.at)
	for _, name := range []string{"s1", "w1", "w2", "w3"} {
		w.node(name)
	}
	stop := w.load(4)
	for i := range cuts {
		w.submitted(between * (i + 1))
		w.cutPower(d)
	}
	w.submitted(between * (cuts + 1))
	w.until("history", func(ctx context.Context) error {
		_, err := w.direct.JetStream().Stream(ctx, "EVENTS")
		return err
	})
	stop()
	w.finish()
}

// load has n clients submit jobs, until stop is called.
func (w *world) load(n int) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	var wait sync.WaitGroup
	for i := range n {
		l := w.newLoad(fmt.Sprintf("load%d", i), uint64(i))
		wait.Go(func() { l.run(ctx, 20*time.Millisecond, 100) })
	}
	return func() { cancel(); wait.Wait() }
}

// submitted waits until so many submissions were acknowledged.
func (w *world) submitted(n int) {
	w.t.Helper()
	w.until("load", func(context.Context) error {
		if len(w.log.snapshot().Submissions) < n {
			return errors.New("too few submissions")
		}
		return nil
	})
}
