package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// family is a mux whose test jobs wait for pure ones, one for each letter of their
// name, and give what those gave.
func family(t *testing.T, pure jobs.Handler[pureArgs]) *jobs.Mux {
	m := handle(func(ctx context.Context, a testArgs) (any, error) {
		var missing []jobs.Job
		sum := ""
		for _, r := range a.Name {
			j, err := jobs.New(pureArgs{string(r)}, jobs.Options{MaxAttempts: 1})
			if err != nil {
				return nil, err
			}
			child, ok := jobs.Children(ctx)[j.ID]
			if !ok {
				missing = append(missing, j)
				continue
			}
			var part string
			if err := child.Decode(&part); err != nil {
				return nil, jobs.Permanent(err)
			}
			sum += part
		}
		if len(missing) > 0 {
			return nil, jobs.Await(missing...)
		}
		return sum, nil
	})
	jobs.Handle(m, pure)
	return m
}

func TestAwait(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: calm})
	var ran atomic.Int32
	m := family(t, func(_ context.Context, a pureArgs) (any, error) {
		ran.Add(1)
		return a.Digest + a.Digest, nil
	})
	p.worker(m, worker.Config{Name: "w1", Slots: 1})
	p.worker(m, worker.Config{Name: "w2", Slots: 1})
	one, two := p.submit(testArgs{"abc"}, jobs.Options{MaxAttempts: 1}), p.submit(testArgs{"bcd"}, jobs.Options{MaxAttempts: 1})
	if got := result[string](t, p.waitState(one.ID, jobs.Done)); got != "aabbcc" {
		t.Errorf("got %q", got)
	}
	st := p.waitState(two.ID, jobs.Done)
	if got := result[string](t, st); got != "bbccdd" || st.Attempt != 1 || st.Waits != 1 {
		t.Errorf("got %q at attempt %d after %d waits", got, st.Attempt, st.Waits)
	}
	if n := ran.Load(); n != 4 {
		t.Errorf("%d runs of 4 children", n)
	}
	// All children are done: a third one waits only for the new one.
	three := p.submit(testArgs{"ae"}, jobs.Options{})
	if got := result[string](t, p.waitState(three.ID, jobs.Done)); got != "aaee" || ran.Load() != 5 {
		t.Errorf("got %q after %d runs", got, ran.Load())
	}
}

// A job is told again of one that failed, and that does not run again.
func TestAwaitWith(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: calm})
	var ran atomic.Int32
	m := handle(func(ctx context.Context, a testArgs) (any, error) {
		var js []jobs.Job
		for _, name := range []string{"bad", "good"} {
			j, err := jobs.New(pureArgs{name}, jobs.Options{MaxAttempts: 1})
			if err != nil {
				return nil, err
			}
			js = append(js, j)
		}
		bad, told := jobs.Children(ctx)[js[0].ID]
		good, done := jobs.Children(ctx)[js[1].ID]
		switch {
		case !told:
			return nil, jobs.Await(js[0])
		case !done:
			return nil, jobs.AwaitWith([]jobs.ID{js[0].ID}, js[1])
		}
		return fmt.Sprintf("%s %s", bad.Record.State, good.Record.State), nil
	})
	jobs.Handle(m, func(_ context.Context, a pureArgs) (any, error) {
		ran.Add(1)
		if a.Digest == "bad" {
			return nil, jobs.Permanent(errors.New("bad"))
		}
		return a.Digest, nil
	})
	p.worker(m, worker.Config{Name: "w1", Slots: 1})
	st := p.waitState(p.submit(testArgs{"x"}, jobs.Options{MaxAttempts: 1}).ID, jobs.Done)
	if got := result[string](t, st); got != "failed done" || ran.Load() != 2 || len(st.Children) != 2 {
		t.Errorf("it was told %q of %v after %d runs", got, st.Children, ran.Load())
	}
}

// A slot is free while its job waits, so that one worker does parents and children.
func TestAwaitHoldsNoSlot(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: calm})
	p.worker(family(t, func(_ context.Context, a pureArgs) (any, error) { return a.Digest, nil }), worker.Config{Name: "only", Slots: 1})
	var ids []jobs.ID
	for i := range 20 {
		ids = append(ids, p.submit(testArgs{fmt.Sprintf("x%c", 'a'+i)}, jobs.Options{}).ID)
	}
	for _, id := range ids {
		p.waitState(id, jobs.Done)
	}
}

func TestAwaitFailedChild(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: calm})
	var broken atomic.Bool
	broken.Store(true)
	p.worker(family(t, func(_ context.Context, a pureArgs) (any, error) {
		if a.Digest == "b" && broken.Load() {
			return nil, jobs.Permanent(errors.New("no such blob"))
		}
		return a.Digest, nil
	}), worker.Config{Name: "w"})
	j, err := jobs.New(testArgs{"ab"}, jobs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Submit(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	st := p.waitState(j.ID, jobs.Failed)
	if st.Failure == nil || !containsAll(st.Failure.Message, "no such blob", "pure-") {
		t.Errorf("failure %+v does not name the child and its reason", st.Failure)
	}
	// Opened again, it has the child opened again.
	broken.Store(false)
	if _, err := p.Submit(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	if got := result[string](t, p.waitState(j.ID, jobs.Done)); got != "ab" {
		t.Errorf("got %q", got)
	}
}

// The scheduler dies while a job waits, and all children end before another starts.
func TestAwaitOutlivesTheScheduler(t *testing.T) {
	p := newPool(t)
	stop := p.scheduler(scheduler.Config{Sweep: calm})
	started, release := make(chan struct{}), make(chan struct{})
	p.worker(family(t, func(_ context.Context, a pureArgs) (any, error) {
		if a.Digest == "a" {
			close(started)
			<-release
		}
		return a.Digest, nil
	}), worker.Config{Name: "w"})
	st := p.submit(testArgs{"a"}, jobs.Options{})
	await(t, started, "child")
	p.until("parent that waits", func() bool { return p.get(st.ID).State == jobs.Waiting })
	stop()
	close(release)
	child := p.get(st.ID).Children[0]
	p.waitState(child, jobs.Done)
	if got := p.get(st.ID).State; got != jobs.Waiting {
		t.Fatalf("the parent is %s without a scheduler", got)
	}
	p.scheduler(scheduler.Config{Sweep: calm})
	p.waitState(st.ID, jobs.Done)
}

// A cancelled parent stays so. Its child, which nobody else waits for, is told to stop.
func TestAwaitCancelled(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: calm})
	started, cause := make(chan struct{}), make(chan error, 1)
	p.worker(family(t, func(ctx context.Context, a pureArgs) (any, error) {
		defer jobs.Quiet(ctx, patience, "waiting for the test")()
		close(started)
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return nil, ctx.Err()
	}), worker.Config{Name: "w"})
	st := p.submit(testArgs{"a"}, jobs.Options{})
	await(t, started, "child")
	p.until("parent that waits", func() bool { return p.get(st.ID).State == jobs.Waiting })
	p.cancel(st.ID)
	if err := await(t, cause, "end of the child"); !errors.Is(err, worker.ErrLost) {
		t.Errorf("the child ended of %v", err)
	}
	p.waitState(p.get(st.ID).Children[0], jobs.Cancelled)
	p.waitState(st.ID, jobs.Cancelled)
}

// Somebody asks for a child that runs: it is theirs, too, and goes on when its parent is
// cancelled, also in another attempt.
func TestARunningChildIsAskedFor(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: 20 * time.Millisecond})
	var m jobs.Mux
	jobs.Handle(&m, func(context.Context, testArgs) (any, error) {
		child, err := jobs.New(pureArgs{"shared"}, jobs.Options{})
		if err != nil {
			return nil, err
		}
		return nil, jobs.Await(child)
	})
	started, cancelled := make(chan struct{}, 2), make(chan struct{})
	jobs.Handle(&m, func(ctx context.Context, _ pureArgs) (any, error) {
		started <- struct{}{}
		select {
		case <-cancelled:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if len(started) == 0 { // the first attempt
			return nil, jobs.RetryAfter(500*time.Millisecond, errors.New("again")) // many sweeps
		}
		return "ok", nil
	})
	p.worker(&m, worker.Config{Name: "w1"})
	parent := p.submit(testArgs{}, jobs.Options{}).ID
	await(t, started, "start of the child")
	if child := p.submit(pureArgs{"shared"}, jobs.Options{}); child.State != jobs.Running {
		t.Fatalf("the child is %s", child.State)
	}
	if _, err := p.Cancel(t.Context(), parent, "enough"); err != nil {
		t.Fatal(err)
	}
	p.wait(parent)
	close(cancelled)
	child, err := jobs.New(pureArgs{"shared"}, jobs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p.waitState(child.ID, jobs.Done)
}

func TestAwaitOneself(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: calm})
	j, err := jobs.New(testArgs{"me"}, jobs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p.worker(handle(func(context.Context, testArgs) (any, error) { return nil, jobs.Await(j) }), worker.Config{Name: "w"})
	if _, err := p.Submit(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	if st := p.waitState(j.ID, jobs.Failed); !strings.Contains(st.Failure.Message, "waits for itself") {
		t.Errorf("failure %+v", st.Failure)
	}
}

// A scheduler that starts finds the messages of resumed jobs and counts them.
func TestAwaitWindowAfterRestart(t *testing.T) {
	p := newPool(t)
	stop := p.scheduler(scheduler.Config{Sweep: calm, Window: 2})
	stopWorker := p.worker(family(t, func(_ context.Context, a pureArgs) (any, error) { return a.Digest, nil }),
		worker.Config{Name: "w", Classes: []jobs.Class{{Kind: "test", OS: jobs.Any, Arch: jobs.Any, Feature: jobs.Any}}})
	var ids []jobs.ID
	for _, name := range []string{"a", "b", "c", "d"} {
		ids = append(ids, p.submit(testArgs{name}, jobs.Options{}).ID)
	}
	p.until("parents that wait", func() bool {
		return !slices.ContainsFunc(ids, func(id jobs.ID) bool { return p.get(id).State != jobs.Waiting })
	})
	stopWorker()
	stopChildren := p.worker(family(t, func(_ context.Context, a pureArgs) (any, error) { return a.Digest, nil }),
		worker.Config{Name: "c", Classes: []jobs.Class{{Kind: "pure", OS: jobs.Any, Arch: jobs.Any, Feature: jobs.Any}}})
	admitted := func() (n int) {
		for _, id := range ids {
			if p.get(id).State == jobs.Queued && p.inWork(id) {
				n++
			}
		}
		return n
	}
	p.until("window of resumed parents", func() bool { return admitted() == 2 })
	stopChildren()
	stop()
	p.scheduler(scheduler.Config{Sweep: calm, Window: 2})
	last := ids[slices.IndexFunc(ids, func(id jobs.ID) bool { return !p.inWork(id) })] // they are resumed together, in any order
	p.explains(last, queue.ReasonWindow, "2 jobs of its line bulk/test/any/any/any are admitted")
	if n := admitted(); n != 2 {
		t.Errorf("%d messages in a window of 2", n)
	}
}

func containsAll(s string, parts ...string) bool {
	return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(s, part) })
}

// A child that somebody tries again by hand is theirs: that no job waits for it any
// more does not end it.
func TestRetryOfAChild(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: 10 * time.Millisecond})
	j, err := jobs.New(pureArgs{"a"}, jobs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	j.Parent = "test-parent"
	if _, err := p.Submit(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	p.waitState(j.ID, jobs.Cancelled) // nobody waits for it
	if _, err := p.Retry(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	for i := range 3 { // each is ended by a later sweep than the one before it
		p.waitState(p.submit(testArgs{Name: fmt.Sprint(i)}, jobs.Options{Timeout: time.Millisecond}).ID, jobs.Failed)
	}
	if st := p.get(j.ID); st.State != jobs.Queued || !st.Direct {
		t.Errorf("got %+v", st.Record)
	}
}

// What a record has no room for, and a child that no message can hold, end the job at
// once, with an error that says which limit it was.
func TestAwaitTooMuch(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: calm})
	long := strings.Repeat("k", 64)
	asked := map[string]func() []jobs.Job{
		"many": func() []jobs.Job { return slices.Repeat([]jobs.Job{{ID: "pure-a"}}, jobs.MaxChildren+1) },
		"long": func() []jobs.Job { return slices.Repeat([]jobs.Job{{ID: jobs.ID(long + "-" + long)}}, 1500) },
		"large": func() []jobs.Job {
			j, err := jobs.New(pureArgs{strings.Repeat("x", 256<<10)}, jobs.Options{})
			if err != nil {
				t.Error(err)
			}
			return []jobs.Job{j}
		},
	}
	p.worker(handle(func(_ context.Context, a testArgs) (any, error) { return nil, jobs.Await(asked[a.Name]()...) }), worker.Config{Name: "w"})
	for name, want := range map[string]string{
		"many":  "it waits for 2001 jobs at once, more than 2000",
		"long":  "it waits for 1500 jobs at once, whose IDs are 198000 bytes, more than 196608",
		"large": "bytes, at most 262144)",
	} {
		st := p.waitState(p.submit(testArgs{name}, jobs.Options{}).ID, jobs.Failed)
		if st.Attempt != 1 || !strings.Contains(st.Failure.Message, want) {
			t.Errorf("%s: after %d attempts %q, want %q", name, st.Attempt, st.Failure.Message, want)
		}
	}
	if n := len(p.jobs()); n != len(asked) {
		t.Errorf("%d jobs, want %d and no children", n, len(asked))
	}
}
