package queue_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

func (p *pool) letters() (ids []jobs.ID) {
	p.t.Helper()
	all, err := p.Letters(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	for _, r := range all {
		ids = append(ids, r.ID)
	}
	return ids
}

// deadPool has a worker that fails until it is healed.
func deadPool(t *testing.T) (p *pool, healed *atomic.Bool) {
	p, healed = newPool(t), new(atomic.Bool)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	p.worker(handle(func(_ context.Context, a testArgs) (any, error) {
		switch {
		case healed.Load():
			return "ok", nil
		case a.Name == "panics":
			panic("boom")
		case a.Name == "fails":
			return nil, jobs.Permanent(errors.New("no"))
		}
		return nil, jobs.RetryAfter(time.Millisecond, errors.New("boom"))
	}), worker.Config{Name: "w1"})
	return p, healed
}

func (p *pool) die(name string) jobs.ID {
	p.t.Helper()
	before := len(p.letters())
	id := p.submit(testArgs{Name: name}, jobs.Options{IdempotencyKey: name, MaxAttempts: 2}).ID
	p.waitState(id, jobs.Dead)
	p.until("the dead letter", func() bool { return len(p.letters()) > before })
	return id
}

func TestDiscard(t *testing.T) {
	p, healed := deadPool(t)
	stop := p.scheduler(scheduler.Config{})
	a, b := p.die("a"), p.die("b")
	if got := p.letters(); len(got) != 2 || got[0] != b || got[1] != a {
		t.Fatalf("letters %v, want %s and %s", got, b, a)
	}
	if err := p.Discard(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	// A scheduler that starts sees the record again, and leaves the letter off.
	stop()
	p.scheduler(scheduler.Config{})
	p.die("c")
	if got := p.letters(); len(got) != 2 || got[1] != b {
		t.Errorf("letters %v without %s", got, a)
	}
	healed.Store(true)
	if _, err := p.Retry(t.Context(), a); err != nil {
		t.Error(err)
	}
	p.waitState(a, jobs.Done)
	if err := p.Discard(t.Context(), a); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("discarded what is done: %v", err)
	}
}

// A job that is forgotten is new again, and dies of something new: that its letter of
// long ago was discarded says nothing about this one.
func TestDeadAgainAfterItWasForgotten(t *testing.T) {
	p, _ := deadPool(t)
	p.scheduler(scheduler.Config{})
	id := p.die("a")
	if err := p.Discard(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if n := p.forgetAll(time.Now().Add(time.Hour)); n != 1 {
		t.Fatalf("%d forgotten", n)
	}
	if again := p.die("a"); again != id {
		t.Errorf("%s died, not %s", again, id)
	}
}

func TestRetry(t *testing.T) {
	p, healed := deadPool(t)
	p.scheduler(scheduler.Config{})
	id := p.die("a")
	was := p.waitState(id, jobs.Dead)
	healed.Store(true)
	st, err := p.Retry(t.Context(), id)
	if err != nil || st.Generation != 2 || !st.Record.Deadline.After(was.Record.Deadline) {
		t.Fatalf("got %+v, %v", st.Record, err)
	}
	p.waitState(id, jobs.Done)
	if got := p.letters(); len(got) != 0 {
		t.Errorf("letters %v of a job that is done", got)
	}
	if _, err := p.Retry(t.Context(), id); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("retried what is done: %v", err)
	}
	if _, err := p.Retry(t.Context(), "test-0"); !errdefs.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}

// A job that took its workers down twice runs again only where a person says so.
func TestQuarantine(t *testing.T) {
	p, healed := deadPool(t)
	p.scheduler(scheduler.Config{})
	id := p.die("panics")
	healed.Store(true)
	if st := p.submit(testArgs{Name: "panics"}, jobs.Options{IdempotencyKey: "panics"}); st.State != jobs.Dead || st.Generation != 1 {
		t.Errorf("submitted again: %+v", st.Record)
	}
	if _, err := p.Retry(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	p.waitState(id, jobs.Done)
}

func TestListByError(t *testing.T) {
	p, _ := deadPool(t)
	p.scheduler(scheduler.Config{})
	p.die("a")
	failed := p.submit(testArgs{Name: "fails"}, jobs.Options{}).ID
	p.waitState(failed, jobs.Failed)
	list, err := p.List(t.Context(), queue.Filter{Error: "no"})
	if err != nil || len(list) != 1 || list[0].Record.ID != failed {
		t.Errorf("got %+v, %v", list, err)
	}
}
