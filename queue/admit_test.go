package queue_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

func (p *pool) workLen() int {
	p.t.Helper()
	s, err := p.JetStream().Stream(p.t.Context(), queue.StreamWork)
	if err != nil {
		return 0
	}
	info, err := s.Info(p.t.Context(), jetstream.WithSubjectFilter("w.>"))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(info.State.Subjects)
}

// WORK holds a window of each class, and all of the backlog passes through it.
func TestWindow(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Window: 2})
	var ids []jobs.ID
	for i := range 20 {
		ids = append(ids, p.submit(testArgs{Name: fmt.Sprint(i)}, jobs.Options{}).ID)
	}
	p.until("a full window", func() bool { return p.workLen() == 2 })
	other := p.submit(pureArgs{"d"}, jobs.Options{}).ID // a later job of another class, behind nobody
	p.until("a second class beside it", func() bool { return p.inWork(other) })
	if n := p.workLen(); n != 3 {
		t.Errorf("%d messages in WORK", n)
	}
	var mu sync.Mutex
	var order []string
	p.worker(handle(func(_ context.Context, a testArgs) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, a.Name)
		return nil, nil
	}), worker.Config{Name: "w1", Slots: 1})
	for _, id := range ids {
		p.waitState(id, jobs.Done)
	}
	for i, name := range order {
		if name != fmt.Sprint(i) {
			t.Fatalf("ran in the order %v", order)
		}
	}
}

// Two schedulers and three workers on one pool: each job runs once.
func TestTwoSchedulers(t *testing.T) {
	p := newPool(t)
	var mu sync.Mutex
	runs := map[string]int{}
	for i := range 3 {
		if i < 2 {
			p.scheduler(scheduler.Config{Window: 4})
		}
		p.worker(handle(func(_ context.Context, a testArgs) (any, error) {
			mu.Lock()
			defer mu.Unlock()
			runs[a.Name]++
			return nil, nil
		}), worker.Config{Name: fmt.Sprint("w", i)})
	}
	var ids []jobs.ID
	for i := range 50 {
		ids = append(ids, p.submit(testArgs{Name: fmt.Sprint(i)}, jobs.Options{}).ID)
	}
	for _, id := range ids {
		if st := p.waitState(id, jobs.Done); st.Attempt != 1 {
			t.Errorf("job %s took %d attempts", id, st.Attempt)
		}
	}
	for name, n := range runs {
		if n != 1 {
			t.Errorf("job %s ran %d times", name, n)
		}
	}
}

// A worker takes as many messages as it has free slots, at once, and not one more.
func TestWorkersTakeWhatTheyCanRun(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Window: 20})
	for i := range 20 {
		p.submit(testArgs{Name: fmt.Sprint(i)}, jobs.Options{})
	}
	p.until("a full window", func() bool { return p.workLen() == 20 })
	release, started := make(chan struct{}), make(chan struct{}, 20)
	defer close(release)
	hang := handle(func(ctx context.Context, _ testArgs) (any, error) {
		started <- struct{}{}
		select {
		case <-release:
		case <-ctx.Done():
		}
		return nil, ctx.Err()
	})
	for _, name := range []string{"w1", "w2"} {
		p.worker(hang, worker.Config{Name: name, Slots: 4})
	}
	for range 8 {
		await(t, started, "job")
	}
	class := jobs.Class{Kind: "test", OS: jobs.Any, Arch: jobs.Any, Feature: jobs.Any}
	c, err := p.JetStream().Consumer(t.Context(), queue.StreamWork, bulk(class).Consumer())
	if err != nil {
		t.Fatal(err)
	}
	if n := c.CachedInfo().NumAckPending; n != 8 {
		t.Errorf("%d messages are out with workers that have 8 slots", n)
	}
}
