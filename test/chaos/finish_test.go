//go:build linux

package chaos_test

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/test/chaos/history"
)

// finish waits until the pool is at rest and has the run judged. Whoever calls it
// has healed everything.
func (w *world) finish() {
	w.t.Helper()
	began := time.Now()
	final, left := w.rest()
	run := w.log.snapshot()
	run.Final, run.Left = final, left
	var err error
	if run.Diary, err = readDiary(filepath.Join(w.dir, "diary")); err != nil {
		w.t.Error(err)
	}
	w.t.Logf("seed %d: %s; at rest %v after the last fault", *seed, count(run), time.Since(began).Round(time.Millisecond))
	bad := append(run.Check(), w.crashes()...)
	if len(run.Final) == 0 || len(run.Submissions) == 0 || len(run.Diary) == 0 {
		bad = append(bad, "the pool was given nothing to do")
	}
	for _, b := range bad {
		w.t.Error(b)
	}
	if len(bad) > 0 {
		for _, f := range run.Faults {
			w.t.Log(f)
		}
	}
}

// restWithin is how long the pool may take to come to rest: a silence that would end a
// job is doubted for ten ack waits, and the machine may have others to serve.
const restWithin = 5 * time.Minute

// rest is what is there when the pool is at rest, or has had its time.
func (w *world) rest() (final []history.Version, left []string) {
	w.t.Helper()
	look := func(ctx context.Context) (err error) {
		if left, err = w.left(ctx); err == nil {
			final, err = w.records(ctx)
		}
		return err
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), restWithin)
	defer cancel()
	for tick := time.Tick(50 * time.Millisecond); ; {
		var err error
		open := w.log.open()
		if open == 0 { // as far as the observer has seen
			err = once(ctx, look)
			open = len(left) + w.log.unseen(final) + len(slices.DeleteFunc(slices.Clone(final), func(v history.Version) bool { return v.State.Ended() }))
		}
		if err == nil && open == 0 {
			return final, left
		}
		select {
		case <-tick:
		case <-ctx.Done():
			w.t.Errorf("not at rest in %v: %d jobs and messages: %v", restWithin, open, err)
			w.until("last look", look)
			return final, left
		}
	}
}

// left are the subjects in WORK.
func (w *world) left(ctx context.Context) ([]string, error) {
	s, err := w.direct.JetStream().Stream(ctx, queue.StreamWork)
	if err != nil {
		return nil, err
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(">"))
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(info.State.Subjects)), nil
}

// count is a run in one line.
func count(r history.Run) string {
	kinds, states, events := map[history.Kind]int{}, map[history.State]int{}, map[history.Event]int{}
	for _, f := range r.Faults {
		kinds[f.Kind]++
	}
	for _, v := range r.Final {
		states[v.State]++
	}
	for _, l := range r.Diary {
		events[l.Event]++
	}
	return fmt.Sprintf("%d faults %v; %d submissions and %d cancellations acknowledged, %d jobs %v; %d calls of handlers %v; %d versions seen, %d writes",
		len(r.Faults), kinds, len(r.Submissions), len(r.Cancels), len(r.Final), states, events[history.Began], events, len(r.Versions), len(r.Writes))
}
