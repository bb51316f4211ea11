package queue_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

func TestSubmitToDone(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: time.Hour})
	p.worker(handle(func(_ context.Context, a testArgs) (any, error) { return "hello " + a.Name, nil }), worker.Config{Name: "w1"})
	st := p.waitState(p.submit(testArgs{Name: "rock"}, jobs.Options{Submitter: "alice"}).ID, jobs.Done)
	if got := result[string](t, st); got != "hello rock" || st.Attempt != 1 || st.Worker != "w1" || st.Claim == 0 {
		t.Errorf("got %q, %+v", got, st.Record)
	}
	p.until("free subject", func() bool { return !p.inWork(st.ID) })
}

func TestSubmitTwice(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{})
	var m jobs.Mux
	var runs atomic.Int32
	count := func() (any, error) { return runs.Add(1), nil }
	jobs.Handle(&m, func(context.Context, testArgs) (any, error) { return count() })
	jobs.Handle(&m, func(context.Context, pureArgs) (any, error) { return count() })
	p.worker(&m, worker.Config{Name: "w1"})

	key := jobs.Options{IdempotencyKey: "order-7"}
	for name, submit := range map[string]func() queue.Status{
		"idempotency key": func() queue.Status { return p.submit(testArgs{Name: "a"}, key) },
		"pure kind":       func() queue.Status { return p.submit(pureArgs{"sha256:00"}, jobs.Options{}) },
	} {
		t.Run(name, func(t *testing.T) {
			runs.Store(0)
			first := submit()
			if again := submit(); again.ID != first.ID {
				t.Errorf("submitted twice: %s and %s", first.ID, again.ID)
			}
			done := p.waitState(first.ID, jobs.Done)
			if after := submit(); after.State != jobs.Done || after.Revision != done.Revision {
				t.Errorf("submitted after its end: %+v", after.Record)
			}
			if n := runs.Load(); n != 1 {
				t.Errorf("ran %d times", n)
			}
		})
	}
	t.Run("key with other args", func(t *testing.T) {
		j, _ := jobs.New(testArgs{Name: "b"}, key)
		if _, err := p.Submit(t.Context(), j); !errdefs.IsAlreadyExists(err) {
			t.Errorf("got %v", err)
		}
	})
}

// What no further try changes is said at once, and not after half a minute of tries.
func TestSubmitRefused(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	p.store("test-2", `{"id":"test-2","kind":"test","class":"test/linux/arm64/gpu/large"}`,
		`{"id":"test-2","class":"test","state":"failed","generation":1,"max_attempts":5}`)
	for _, tc := range []struct {
		name string
		id   jobs.ID
		args int
		want error
		text string
	}{
		{"larger than a message", "test-1", 256 << 10, errdefs.ErrOutOfRange, "bytes, at most 262144)"},
		{"on a job of another version", "test-2", 1, queue.ErrUnreadable, "test/linux/arm64/gpu/large"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			j, err := jobs.New(testArgs{Name: strings.Repeat("x", tc.args)}, jobs.Options{})
			if err != nil {
				t.Fatal(err)
			}
			j.ID = tc.id
			// Its own error, not one of this bound.
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			_, err = p.Submit(ctx, j)
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) || ctx.Err() != nil {
				t.Errorf("got %v, %v; want %v", err, ctx.Err(), tc.want)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{})
	boom := errors.New("boom")
	p.worker(handle(func(_ context.Context, a testArgs) (any, error) {
		switch a.Name {
		case "permanent":
			return nil, jobs.Permanent(boom)
		case "panic":
			panic("boom")
		case "large":
			return strings.Repeat("x", 300<<10), nil
		}
		return nil, jobs.RetryAfter(time.Millisecond, boom)
	}), worker.Config{Name: "w1"})

	for _, tc := range []struct {
		name     string
		state    jobs.State
		class    jobs.ErrorClass
		attempts int
	}{
		{"permanent", jobs.Failed, jobs.ClassPermanent, 1},
		{"transient", jobs.Dead, jobs.ClassTransient, 3},
		{"large", jobs.Failed, jobs.ClassPermanent, 1},
		{"panic", jobs.Dead, jobs.ClassPoison, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			id := p.submit(testArgs{Name: tc.name}, jobs.Options{MaxAttempts: 3}).ID
			st := p.waitState(id, tc.state)
			if st.Failure == nil || st.Failure.Class != tc.class || st.Attempt != tc.attempts || st.Result != nil {
				t.Errorf("got %+v %+v", st.Record, st.Failure)
			}
		})
	}
}

// A dead job leaves a letter and a free subject: opened again, it runs.
func TestDeadJobOpensAgain(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{})
	var healed atomic.Bool
	p.worker(handle(func(context.Context, testArgs) (any, error) {
		if healed.Load() {
			return "ok", nil
		}
		return nil, jobs.RetryAfter(time.Millisecond, errors.New("boom"))
	}), worker.Config{Name: "w1"})
	opt := jobs.Options{MaxAttempts: 2, IdempotencyKey: "k"}
	id := p.submit(testArgs{}, opt).ID
	dead := p.waitState(id, jobs.Dead)
	p.until("the dead letter", func() bool {
		letter, err := p.DeadLetter(t.Context(), id)
		return err == nil && letter.Failure.Message == "boom" && letter.Attempt == dead.Attempt
	})
	healed.Store(true)
	if st := p.submit(testArgs{}, opt); st.Generation != 2 || st.Attempt != 0 {
		t.Errorf("opened again: %+v", st.Record)
	}
	if st := p.waitState(id, jobs.Done); st.Generation != 2 || st.Attempt != 1 {
		t.Errorf("got %+v", st.Record)
	}
}

func TestSchedulerRefuses(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{})
	j, err := jobs.New(testArgs{}, jobs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	unknown, invalid := j, j
	unknown.ID, unknown.Kind, unknown.Class.Kind = "burn-1", "burn", "burn"
	invalid.ID, invalid.Args = "test-1", []byte(`{"name":"invalid"}`)
	for _, j := range []jobs.Job{unknown, invalid} {
		if _, err := p.Submit(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		if st := p.waitState(j.ID, jobs.Failed); st.Failure.Class != jobs.ClassPermanent {
			t.Errorf("got %+v", st.Failure)
		} else {
			t.Log(st.Failure.Message)
		}
	}
}

func TestCancel(t *testing.T) {
	p := newPool(t)
	t.Run("before it runs", func(t *testing.T) {
		p.scheduler(scheduler.Config{})
		id := p.submit(testArgs{}, jobs.Options{}).ID
		p.until("admission", func() bool { return p.inWork(id) })
		st, err := p.Cancel(t.Context(), id, "changed my mind")
		if err != nil || st.State != jobs.Cancelled || st.Reason != "changed my mind" {
			t.Errorf("got %+v, %v", st.Record, err)
		}
		p.until("free subject", func() bool { return !p.inWork(id) })
		if _, err := p.Cancel(t.Context(), id, "again"); err != nil {
			t.Errorf("cancelled twice: %v", err)
		}
	})
	t.Run("while it runs", func(t *testing.T) {
		started, cause := make(chan struct{}), make(chan error, 1)
		stop := p.worker(handle(func(ctx context.Context, _ testArgs) (any, error) {
			close(started)
			<-ctx.Done()
			cause <- context.Cause(ctx)
			return "too late", nil
		}), worker.Config{Name: "w1"})
		id := p.submit(testArgs{}, jobs.Options{}).ID
		await(t, started, "start")
		if _, err := p.Cancel(t.Context(), id, "stop"); err != nil {
			t.Fatal(err)
		}
		if err := await(t, cause, "cancellation"); !errors.Is(err, worker.ErrLost) {
			t.Errorf("cause %v", err)
		}
		stop()
		if st := p.wait(id); st.State != jobs.Cancelled || st.Result != nil {
			t.Errorf("got %+v", st.Record)
		}
	})
	t.Run("after its end", func(t *testing.T) {
		p.worker(handle(func(context.Context, testArgs) (any, error) { return 1, nil }), worker.Config{Name: "w2"})
		id := p.submit(testArgs{}, jobs.Options{}).ID
		p.waitState(id, jobs.Done)
		if _, err := p.Cancel(t.Context(), id, "late"); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("got %v", err)
		}
	})
}

func TestDeadline(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: 50 * time.Millisecond})
	t.Run("nobody serves it", func(t *testing.T) {
		st := p.waitState(p.submit(testArgs{}, jobs.Options{Timeout: 10 * time.Millisecond}).ID, jobs.Failed)
		if !strings.Contains(st.Failure.Message, "deadline") {
			t.Errorf("got %+v", st.Failure)
		}
	})
	t.Run("while it runs", func(t *testing.T) {
		p.worker(handle(func(ctx context.Context, _ testArgs) (any, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}), worker.Config{Name: "w1"})
		st := p.waitState(p.submit(testArgs{}, jobs.Options{Timeout: 2 * time.Second}).ID, jobs.Failed)
		if !strings.Contains(st.Failure.Message, "deadline") || st.Attempt != 1 {
			t.Errorf("got %+v %+v", st.Record, st.Failure)
		}
	})
}
