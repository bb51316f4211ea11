package queue_test

import (
	"context"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// forgetAll takes steps until there is nothing older.
func (p *pool) forgetAll(before time.Time) (removed int) {
	p.t.Helper()
	for from, first := uint64(0), true; first || from > 0; first = false {
		next, n, err := p.Forget(p.t.Context(), before, from)
		if err != nil {
			p.t.Fatal(err)
		}
		from, removed = next, removed+n
	}
	return removed
}

func TestForget(t *testing.T) {
	p := newPool(t)
	stop := p.scheduler(scheduler.Config{})
	stopWorker := p.worker(handle(func(context.Context, testArgs) (any, error) { return "ok", nil }), worker.Config{Name: "w1"})
	var done []jobs.ID
	for range 5 {
		done = append(done, p.submit(testArgs{}, jobs.Options{}).ID)
	}
	for _, id := range done {
		p.waitState(id, jobs.Done)
	}
	stop()
	stopWorker()
	keyed := jobs.Options{IdempotencyKey: "k"}
	again := p.submit(testArgs{}, keyed).ID
	if _, err := p.Cancel(t.Context(), again, "test"); err != nil {
		t.Fatal(err)
	}
	open := p.submit(testArgs{}, jobs.Options{}).ID
	between := time.Now()

	if n := p.forgetAll(between.Add(-time.Hour)); n != 0 {
		t.Errorf("%d removed too early", n)
	}
	p.submit(testArgs{}, keyed) // opened again: its record is young
	if n := p.forgetAll(between); n != len(done) {
		t.Errorf("%d removed, want %d", n, len(done))
	}
	for _, id := range done {
		if _, err := p.Get(t.Context(), id); !errdefs.IsNotFound(err) {
			t.Errorf("%s: got %v", id, err)
		}
	}
	for _, id := range []jobs.ID{again, open} {
		if st := p.get(id); st.State != jobs.Queued {
			t.Errorf("%s is %s", id, st.State)
		}
	}
	if n := p.forgetAll(time.Now()); n != 0 {
		t.Errorf("%d removed that had not ended", n)
	}
	// What is forgotten is new again.
	if st := p.submit(testArgs{}, jobs.Options{IdempotencyKey: "fresh"}); st.Generation != 1 {
		t.Errorf("got %+v", st.Record)
	}
}

// A rollout asks before its last wave how its first one did.
func TestForgetKeepsChildren(t *testing.T) {
	p := newPool(t)
	child, err := jobs.New(testArgs{Name: "child"}, jobs.Options{IdempotencyKey: "child"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := jobs.New(testArgs{Name: "second"}, jobs.Options{IdempotencyKey: "second"})
	if err != nil {
		t.Fatal(err)
	}
	known := make(chan int, 1)
	hold, held := make(chan struct{}), make(chan struct{})
	p.scheduler(scheduler.Config{})
	p.worker(handle(func(ctx context.Context, a testArgs) (any, error) {
		switch found := jobs.Children(ctx); {
		case a.Name == "second":
			close(held)
			<-hold
		case a.Name == "parent" && len(found) == 0:
			return nil, jobs.Await(child)
		case a.Name == "parent" && len(found) == 1:
			return nil, jobs.AwaitWith([]jobs.ID{child.ID}, second)
		case a.Name == "parent":
			known <- len(found)
		}
		return "ok", nil
	}), worker.Config{Name: "w1"})
	parent := p.submit(testArgs{Name: "parent"}, jobs.Options{}).ID
	await(t, held, "second child that runs")
	if n := p.forgetAll(time.Now()); n != 0 {
		t.Errorf("%d removed while the parent waits", n)
	}
	close(hold)
	p.waitState(parent, jobs.Done)
	if n := <-known; n != 2 {
		t.Errorf("the parent knows of %d children, want 2", n)
	}
	if n := p.forgetAll(time.Now()); n != 3 {
		t.Errorf("%d removed, want the parent and its children", n)
	}
}

// The record is opened again between the look and the removal.
func TestForgetLosesNoSubmission(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	o := jobs.Options{IdempotencyKey: "k"}
	id := p.submit(testArgs{}, o).ID
	c := p.connect("forgets")
	for range 20 {
		if _, err := p.Cancel(t.Context(), id, "test"); err != nil {
			t.Fatal(err)
		}
		forgot := make(chan error, 1)
		go func() {
			_, _, err := c.Forget(t.Context(), time.Now().Add(time.Hour), 0)
			forgot <- err
		}()
		p.submit(testArgs{}, o)
		if err := await(t, forgot, "end of Forget"); err != nil {
			t.Fatal(err)
		}
		if st := p.get(id); st.State != jobs.Queued {
			t.Fatalf("accepted, and %s", st.State)
		}
	}
}

func TestSchedulerForgets(t *testing.T) {
	p := newPool(t)
	p.worker(handle(func(context.Context, testArgs) (any, error) { return "ok", nil }), worker.Config{Name: "w1"})
	p.scheduler(scheduler.Config{Keep: time.Millisecond, Sweep: 50 * time.Millisecond})
	id := p.submit(testArgs{}, jobs.Options{}).ID
	p.until("end of the job", func() bool {
		_, err := p.Get(t.Context(), id)
		return errdefs.IsNotFound(err)
	})
}

// What a submitter left that died between its two writes is removed, and nothing else.
func TestForgetUnfinished(t *testing.T) {
	p := newPool(t)
	p.setup()
	p.put("test-left", ".spec", "{}")
	open := p.submit(testArgs{}, jobs.Options{}).ID
	ended := p.submit(testArgs{}, jobs.Options{}).ID
	if _, err := p.Cancel(t.Context(), ended, "test"); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		before time.Time
		want   int
	}{{time.Now().Add(-time.Hour), 0}, {time.Now().Add(time.Hour), 1}, {time.Now().Add(time.Hour), 0}} {
		if next, n, err := p.ForgetUnfinished(t.Context(), step.before, 0); err != nil || n != step.want {
			t.Errorf("before %v: removed %d, want %d; next %d, %v", step.before, n, step.want, next, err)
		}
	}
	for _, id := range []jobs.ID{open, ended} {
		p.get(id)
	}
	state, err := p.JetStream().Stream(t.Context(), queue.StreamState)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := state.GetLastMsgForSubject(t.Context(), "st.test.left.spec"); err == nil {
		t.Errorf("%s is still there", m.Subject)
	}
}
