package queue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// token redacts itself, as telemetry.Secret does.
type token string

func (token) LogValue() slog.Value { return slog.StringValue("redacted") }

func TestWatch(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{})
	id := p.submit(testArgs{}, jobs.Options{Submitter: "alice"}).ID
	watched := make(chan []queue.Event, 1)
	go func() { watched <- p.watch(id, 0, -1) }() // live, before anything happens
	p.worker(handle(func(ctx context.Context, _ testArgs) (any, error) {
		jobs.Event(ctx, "layer converted", "size", 7, "auth", token("hunter2"))
		return nil, jobs.Permanent(fmt.Errorf("boom"))
	}), worker.Config{Name: "w1"})

	live := await(t, watched, "end of the watch")
	want := []string{
		"alice: submitted map[]",
		"w1: attempt started map[]",
		"w1: layer converted map[auth:redacted size:7]",
		"w1: attempt failed map[class:permanent error:boom]",
		"w1: failed map[class:permanent error:boom]",
	}
	if diff := cmp.Diff(show(live), want); diff != "" {
		t.Errorf("live -got +want:\n%s", diff)
	}
	if last := live[len(live)-1]; last.State != jobs.Failed {
		t.Errorf("last event %+v", last)
	}
	if diff := cmp.Diff(show(p.watch(id, 0, -1)), want); diff != "" {
		t.Errorf("afterwards -got +want:\n%s", diff)
	}
	part := p.watch(id, 0, 2)
	if diff := cmp.Diff(show(p.watch(id, part[1].Seq, -1)), want[2:]); diff != "" {
		t.Errorf("resumed -got +want:\n%s", diff)
	}
	for _, err := range p.Watch(t.Context(), "test-unknown", 0) {
		if !errdefs.IsNotFound(err) {
			t.Errorf("unknown job: %v", err)
		}
	}
}

// watch collects n events, or all.
func (p *pool) watch(id jobs.ID, after uint64, n int) (events []queue.Event) {
	for e, err := range p.Watch(p.t.Context(), id, after) {
		if err != nil {
			p.t.Error(err)
		}
		if events = append(events, e); len(events) == n {
			break
		}
	}
	return events
}

func show(events []queue.Event) (out []string) {
	for _, e := range events {
		out = append(out, fmt.Sprintf("%s: %s %v", e.Source, e.Phrase, e.Attrs))
	}
	return out
}

func TestList(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if got, err := p.List(t.Context(), queue.Filter{}); err != nil || len(got) != 0 {
		t.Errorf("empty pool: %v, %v", got, err)
	}
	var ids []jobs.ID
	for i := range 5 {
		ids = append(ids, p.submit(testArgs{Name: fmt.Sprint(i)}, jobs.Options{}).ID)
	}
	ids = append(ids, p.submit(pureArgs{"d"}, jobs.Options{}).ID)
	if _, err := p.Cancel(t.Context(), ids[1], "x"); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		filter queue.Filter
		want   []jobs.ID
	}{
		{"all, latest change first", queue.Filter{}, []jobs.ID{ids[1], ids[5], ids[4], ids[3], ids[2], ids[0]}},
		{"limit", queue.Filter{Limit: 2}, []jobs.ID{ids[1], ids[5]}},
		{"kind", queue.Filter{Kind: "pure"}, []jobs.ID{ids[5]}},
		{"state", queue.Filter{States: []jobs.State{jobs.Cancelled, jobs.Done}}, []jobs.ID{ids[1]}},
		{"none", queue.Filter{Kind: "test", States: []jobs.State{jobs.Dead}}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			list, err := p.List(t.Context(), tc.filter)
			if err != nil {
				t.Fatal(err)
			}
			var got []jobs.ID
			for _, st := range list {
				got = append(got, st.ID)
				if st.Job.ID != st.ID || len(st.Job.Args) == 0 {
					t.Errorf("job %s without its spec", st.ID)
				}
			}
			if diff := cmp.Diff(got, tc.want); diff != "" {
				t.Errorf("-got +want:\n%s", diff)
			}
		})
	}
	if _, err := p.List(t.Context(), queue.Filter{Kind: ">"}); err == nil {
		t.Error("a wildcard passed as a kind")
	}
}

// A pool that changes while it is listed: each job is there once, in one state.
func TestListWhileThePoolChanges(t *testing.T) {
	const n, busy = 2500, 50 // more than one fetch; the oldest and the newest of them change all the time
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	states := []jobs.State{jobs.Queued, jobs.Retry}
	put := func(i, version int) {
		record := fmt.Sprintf(`{"id":"test-%d","class":"test","state":"%s","generation":1,"max_attempts":5}`, i, states[version%2])
		if _, err := p.JetStream().PublishAsync(fmt.Sprintf("st.test.%d.run", i), []byte(record)); err != nil {
			t.Error(err)
		}
	}
	for i := range n {
		put(i, 0)
	}
	await(t, p.JetStream().PublishAsyncComplete(), "records")
	changes, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(changes)
		for version := 1; ; version++ {
			for i := range busy {
				put(i, version)
				put(n-1-i, version)
			}
			select {
			case <-p.JetStream().PublishAsyncComplete():
			case <-stop:
				return
			}
		}
	}()
	defer func() { close(stop); <-changes }()
	list := func(f queue.Filter) map[jobs.ID]bool {
		t.Helper()
		all, err := p.List(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[jobs.ID]bool{}
		for i, st := range all {
			if seen[st.ID] {
				t.Errorf("%s is named twice", st.ID)
			}
			seen[st.ID] = true
			if i > 0 && st.Revision > all[i-1].Revision {
				t.Errorf("%s changed after the one before it", st.ID)
			}
		}
		return seen
	}
	for range 4 {
		if got := list(queue.Filter{Limit: 2 * n}); len(got) != n {
			t.Errorf("listed %d jobs of %d", len(got), n)
		}
		queued := list(queue.Filter{Limit: n, States: []jobs.State{jobs.Queued}})
		for i := busy; i < n-busy; i++ {
			if !queued[jobs.ID(fmt.Sprint("test-", i))] {
				t.Errorf("test-%d is left out of the queued ones", i)
			}
		}
		if got := list(queue.Filter{Limit: 10}); len(got) != 10 {
			t.Errorf("listed %d jobs, want the last 10", len(got))
		}
	}
}

func TestWorkers(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{})
	started, release := make(chan struct{}), make(chan struct{})
	stop := p.worker(handle(func(context.Context, testArgs) (any, error) {
		close(started)
		<-release
		return nil, nil
	}), worker.Config{Name: "w1", Slots: 3, Version: "v9"})
	p.worker(handle(nil), worker.Config{Name: "w0", Classes: []jobs.Class{{Kind: "other", OS: "windows", Arch: "any", Feature: "any"}}})
	id := p.submit(testArgs{}, jobs.Options{}).ID
	await(t, started, "start")
	p.until("both workers, and the job", func() bool {
		ws, err := p.Workers(t.Context())
		return err == nil && len(ws) == 2 && ws[0].Name == "w0" && ws[1].Slots == 3 && ws[1].Version == "v9" &&
			len(ws[1].Classes) == 3 && len(ws[1].Running) == 1 && ws[1].Running[0].ID == id
	})
	close(release)
	p.waitState(id, jobs.Done)
	stop()
	if ws, err := p.Workers(t.Context()); err != nil || len(ws) != 1 {
		t.Errorf("after its end: %v, %v", ws, err)
	}
}

func TestUnknownJob(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Get(t.Context(), "test-unknown"); !errdefs.IsNotFound(err) {
		t.Errorf("Get: %v", err)
	}
	if _, err := p.Wait(t.Context(), "test-unknown"); !errdefs.IsNotFound(err) {
		t.Errorf("Wait: %v", err)
	}
	if _, err := p.Cancel(t.Context(), "test-*", ""); !errdefs.IsInvalidArgument(err) {
		t.Errorf("Cancel: %v", err)
	}
}

// A server that does not answer has not said that there is no such job.
func TestNoAnswerIsNotUnknown(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	st := p.apply(p.submit(testArgs{}, jobs.Options{}), jobs.Claim{Worker: "w1", At: time.Now()})
	p.stop()
	defer p.start()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := p.Get(ctx, st.ID); !errors.Is(err, context.DeadlineExceeded) || errdefs.IsNotFound(err) {
		t.Errorf("Get: %v", err)
	}
	if held, err := p.Holds(ctx, st); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Holds: %v, %v", held, err)
	}
	if _, err := p.DeadLetter(ctx, st.ID); !errors.Is(err, context.DeadlineExceeded) || errdefs.IsNotFound(err) {
		t.Errorf("DeadLetter: %v", err)
	}
}

func TestSetupSeesDrift(t *testing.T) {
	p := newPool(t)
	for range 2 { // the second finds everything as it should be
		if err := p.Setup(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	s, err := p.JetStream().Stream(t.Context(), queue.StreamState)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.MaxBytes = 1 << 30 // the operator's to choose
	update := func() {
		t.Helper()
		if _, err := p.JetStream().UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	update()
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Errorf("larger stream: %v", err)
	}
	cfg.MaxMsgsPerSubject, cfg.AllowAtomicPublish = 5, false
	update()
	err = p.Setup(t.Context(), 1)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "max_msgs_per_subject is 5, want 1, allow_atomic is false, want true") {
		t.Errorf("got %v", err)
	}
	if err := scheduler.New(p.Client, validators, scheduler.Config{}).Run(t.Context()); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("scheduler ran on it: %v", err)
	}
	if err := p.JetStream().DeleteStream(t.Context(), queue.StreamState); err != nil {
		t.Fatal(err)
	}
	cfg = jetstream.StreamConfig{Name: queue.StreamState, Subjects: []string{"st.>"}, Retention: jetstream.WorkQueuePolicy}
	if _, err := p.JetStream().CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := p.Setup(t.Context(), 1); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "retention") {
		t.Errorf("got %v", err)
	}
}
