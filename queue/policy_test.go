package queue_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// busyWorker runs jobs that tell their name when they start and end with release.
func (p *pool) busyWorker(cfg worker.Config) (started chan string, release chan struct{}) {
	started, release = make(chan string, 100), make(chan struct{})
	hold := func(ctx context.Context, name string) (any, error) {
		started <- name
		select {
		case <-release:
			return name, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	var m jobs.Mux
	jobs.Handle(&m, func(ctx context.Context, a testArgs) (any, error) { return hold(ctx, a.Name) })
	jobs.Handle(&m, func(ctx context.Context, a pureArgs) (any, error) { return hold(ctx, a.Digest) })
	p.worker(&m, cfg)
	return started, release
}

// Bulk leaves the reserved slot alone, and what is urgent comes first.
func TestInteractiveFirst(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{})
	started, release := p.busyWorker(worker.Config{Name: "w1", Slots: 1})
	bulk := jobs.Options{}
	p.submit(testArgs{Name: "bulk 1"}, bulk)
	if got := await(t, started, "start"); got != "bulk 1" {
		t.Fatalf("%s started", got)
	}
	p.submit(testArgs{Name: "bulk 2"}, bulk)
	urgent := jobs.Options{Priority: jobs.Interactive}
	p.submit(testArgs{Name: "urgent 1"}, urgent)
	if got := await(t, started, "start in the reserved slot"); got != "urgent 1" {
		t.Fatalf("%s started", got)
	}
	second := p.submit(testArgs{Name: "urgent 2"}, urgent)
	p.until("admission", func() bool { return p.inWork(second.ID) })
	release <- struct{}{}
	if got := await(t, started, "start in a freed slot"); got != "urgent 2" {
		t.Errorf("%s started before what is urgent", got)
	}
	close(release)
	if got := await(t, started, "last start"); got != "bulk 2" {
		t.Errorf("%s started", got)
	}
}

// A bulk job that somebody urgent asks for leaves its line, and runs once.
func TestPromotionMovesTheMessage(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: calm})
	st := p.submit(pureArgs{"x"}, jobs.Options{})
	p.until("admission", func() bool { return p.inWork(st.ID) })
	again := p.submit(pureArgs{"x"}, jobs.Options{Priority: jobs.Interactive})
	if again.ID != st.ID || again.Priority != jobs.Interactive {
		t.Fatalf("got %+v", again.Record)
	}
	line := queue.LineOf(again.Record)
	p.until("one message in the urgent line", func() bool {
		_, err := p.message(line.Subject(st.ID))
		_, old := p.message(queue.LineOf(st.Record).Subject(st.ID))
		return err == nil && old != nil
	})
	started, release := p.busyWorker(worker.Config{Name: "w1", Slots: 2})
	close(release)
	await(t, started, "start")
	if st := p.waitState(st.ID, jobs.Done); st.Attempt != 1 {
		t.Errorf("got %+v", st.Record)
	}
	if len(started) > 0 {
		t.Error("it ran twice")
	}
}

// message reads what is in WORK under a subject.
func (p *pool) message(subject string) (uint64, error) {
	p.t.Helper()
	s, err := p.JetStream().Stream(p.t.Context(), queue.StreamWork)
	if err != nil {
		p.t.Fatal(err)
	}
	m, err := s.GetLastMsgForSubject(p.t.Context(), subject)
	if err != nil {
		return 0, err
	}
	return m.Sequence, nil
}

func (p *pool) control(change func(*queue.Controls)) {
	p.t.Helper()
	if err := p.Setup(p.t.Context(), 1); err != nil { // the scheduler may not have come to it
		p.t.Fatal(err)
	}
	if err := p.Control(p.t.Context(), func(c *queue.Controls) error { change(c); return nil }); err != nil {
		p.t.Fatal(err)
	}
}

// What was admitted and has not started is taken back by a pause, and comes again.
func TestPauseTakesBack(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: calm})
	admitted := p.submit(testArgs{Name: "a"}, jobs.Options{})
	p.until("admission", func() bool { return p.inWork(admitted.ID) })
	p.control(func(c *queue.Controls) {
		c.Pauses = []queue.Pause{{Selector: queue.Selector{Kind: "test"}, By: "alice", Reason: "maintenance", Since: time.Now()}}
	})
	p.until("return of the message", func() bool { return !p.inWork(admitted.ID) })
	later := p.submit(testArgs{Name: "b"}, jobs.Options{})
	for _, id := range []jobs.ID{admitted.ID, later.ID} {
		p.explains(id, queue.ReasonPaused, "kind test is paused since", "by alice: maintenance")
	}
	started, release := p.busyWorker(worker.Config{Name: "w1"})
	close(release)
	p.submit(pureArgs{"of another kind"}, jobs.Options{})
	if got := await(t, started, "start"); got != "of another kind" {
		t.Errorf("%s started", got)
	}
	p.control(func(c *queue.Controls) { c.Pauses = nil })
	p.waitState(admitted.ID, jobs.Done)
	p.waitState(later.ID, jobs.Done)
}

func TestTenantsAndRegistriesAreLimited(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: calm})
	p.control(func(c *queue.Controls) {
		c.Tenants = map[string]queue.Tenant{"small": {MaxInFlight: 1}}
		c.Registries = map[string]queue.Registry{"hub.example.com": {Concurrency: 1}}
	})
	started, release := p.busyWorker(worker.Config{Name: "w1", Slots: 8})
	small := jobs.Options{Tenant: "small"}
	p.submit(testArgs{Name: "first of small"}, small)
	await(t, started, "start")
	kept := p.submit(testArgs{Name: "second of small"}, small)
	p.explains(kept.ID, queue.ReasonTenant, "tenant small has 1 jobs in flight, of at most 1")

	hosted := func(name string) queue.Status {
		j, err := jobs.New(testArgs{Name: name}, jobs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		j.Hosts = []string{"hub.example.com"}
		st, err := p.Submit(t.Context(), j)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	hosted("first of hub")
	await(t, started, "start")
	p.explains(hosted("second of hub").ID, queue.ReasonRegistry, "registry hub.example.com has 1 jobs in flight, of at most 1")
	if len(started) > 0 {
		t.Errorf("%s started", <-started)
	}
	close(release)
	p.waitState(kept.ID, jobs.Done)
}

func TestDelayedJob(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: calm})
	started, release := p.busyWorker(worker.Config{Name: "w1"})
	close(release)
	far := p.submit(testArgs{Name: "far"}, jobs.Options{NotBefore: time.Now().Add(time.Hour), Timeout: time.Minute})
	p.explains(far.ID, queue.ReasonDelayed, "not to run before")
	at := time.Now().Add(time.Second)
	near := p.submit(testArgs{Name: "near"}, jobs.Options{NotBefore: at})
	if got := await(t, started, "start"); got != "near" || time.Now().Before(at) {
		t.Errorf("%s started at %v, not before %v", got, time.Now(), at)
	}
	p.waitState(near.ID, jobs.Done)
}

// parents is a pool in which jobs of the kind test wait for the pure job "shared".
func parents(t *testing.T) (p *pool, submit func(string) queue.Status, child jobs.ID) {
	p = newPool(t)
	shared, err := jobs.New(pureArgs{"shared"}, jobs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var m jobs.Mux
	jobs.Handle(&m, func(ctx context.Context, _ testArgs) (any, error) {
		if c, ok := jobs.Children(ctx)[shared.ID]; ok && c.Record.State == jobs.Done {
			return "ok", nil
		}
		return nil, jobs.Await(shared)
	})
	p.scheduler(scheduler.Config{Sweep: calm})
	p.worker(&m, worker.Config{Name: "parents"})
	submit = func(name string) queue.Status {
		t.Helper()
		st := p.submit(testArgs{Name: name}, jobs.Options{})
		p.until("wait of "+name, func() bool { return p.get(st.ID).State == jobs.Waiting })
		return st
	}
	return p, submit, shared.ID
}

func (p *pool) cancel(id jobs.ID) {
	p.t.Helper()
	if _, err := p.Cancel(p.t.Context(), id, "test"); err != nil {
		p.t.Fatal(err)
	}
}

func TestSharedChildIsCancelledWithItsLastParent(t *testing.T) {
	p, submit, child := parents(t)
	a, b := submit("a"), submit("b")
	p.cancel(a.ID)
	mark := p.submit(pureArgs{"mark"}, jobs.Options{})
	p.until("the scheduler to have seen it", func() bool { return p.inWork(mark.ID) })
	if st := p.get(child); st.State != jobs.Queued {
		t.Fatalf("the child of two is %s after the end of one: %s", st.State, st.Reason)
	}
	p.cancel(b.ID)
	st := p.waitState(child, jobs.Cancelled)
	if !containsAll(st.Reason, string(b.ID), "nobody else") {
		t.Errorf("reason %q", st.Reason)
	}
	// Somebody wants it after all.
	c := submit("c")
	if st := p.get(child); st.State != jobs.Queued || st.Generation != 2 {
		t.Errorf("got %+v", st.Record)
	}
	_, release := p.busyWorker(worker.Config{Name: "w1"})
	close(release)
	p.waitState(c.ID, jobs.Done)
}

func TestChildThatSomebodyAskedForStays(t *testing.T) {
	p, submit, child := parents(t)
	a := submit("a")
	if st := p.submit(pureArgs{"shared"}, jobs.Options{}); !st.Direct {
		t.Fatalf("got %+v", st.Record)
	}
	p.cancel(a.ID)
	mark := p.submit(pureArgs{"mark"}, jobs.Options{})
	p.until("the scheduler to have seen it", func() bool { return p.inWork(mark.ID) })
	if st := p.get(child); st.State != jobs.Queued {
		t.Errorf("it is %s: %s", st.State, st.Reason)
	}
}

// A job that waits becomes urgent with its children; a new one's are as urgent as it is.
func TestChildrenAreAsUrgentAsTheirParent(t *testing.T) {
	p, submit, child := parents(t)
	submit("bulk")
	if st := p.get(child); st.Priority != jobs.Bulk || st.Direct || st.Job.Parent == "" {
		t.Fatalf("got %+v", st.Record)
	}
	st := p.submit(testArgs{Name: "urgent"}, jobs.Options{Priority: jobs.Interactive})
	p.until("promotion", func() bool { return p.get(child).Priority == jobs.Interactive })
	p.explains(st.ID, queue.ReasonChildren, "it waits for 1 of 1 jobs")
}

func TestControlsConflict(t *testing.T) {
	p := newPool(t)
	p.control(func(c *queue.Controls) { c.Tenants = map[string]queue.Tenant{"a": {Weight: 1}} })
	other, tries := p.connect("other"), 0
	p.control(func(c *queue.Controls) {
		if tries++; tries == 1 {
			if err := other.Control(t.Context(), func(c *queue.Controls) error { c.Tenants["b"] = queue.Tenant{Weight: 2}; return nil }); err != nil {
				t.Fatal(err)
			}
		}
		c.Tenants["c"] = queue.Tenant{Weight: 3}
	})
	c, err := p.Controls(t.Context())
	if err != nil || len(c.Tenants) != 3 || tries != 2 {
		t.Errorf("got %+v after %d tries, %v", c, tries, err)
	}
	refused := errors.New("no")
	if err := p.Control(t.Context(), func(*queue.Controls) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
}

// A pause takes back the next attempt, too, of a job that has failed before.
func TestPauseTakesBackARetry(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: calm})
	id := p.submit(testArgs{Name: "a"}, jobs.Options{}).ID
	p.until("admission", func() bool { return p.inWork(id) })
	m := p.pullByHand(id)
	st := p.apply(p.get(id), jobs.Claim{Worker: "w1", At: time.Now()})
	p.apply(st, jobs.Fail{Claim: st.Revision, Failure: jobs.Failure{Class: jobs.ClassTransient}, Delay: time.Millisecond, At: time.Now()})
	if err := m.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.until("second admission", func() bool { return p.inWork(id) })
	p.control(func(c *queue.Controls) { c.Pauses = []queue.Pause{{Since: time.Now()}} })
	p.until("message taken back", func() bool { return !p.inWork(id) })
}

// What was admitted before a pause that no scheduler was there for, the next one's
// sweep takes back.
func TestPauseWithoutAScheduler(t *testing.T) {
	p := newPool(t)
	stop := p.scheduler(scheduler.Config{Sweep: calm})
	id := p.submit(testArgs{Name: "a"}, jobs.Options{}).ID
	p.until("admission", func() bool { return p.inWork(id) })
	stop()
	p.control(func(c *queue.Controls) { c.Pauses = []queue.Pause{{Since: time.Now()}} })
	p.scheduler(scheduler.Config{Sweep: 20 * time.Millisecond})
	p.until("message taken back", func() bool { return !p.inWork(id) })
	p.control(func(c *queue.Controls) { c.Pauses = nil })
	p.until("message again", func() bool { return p.inWork(id) })
}

// Many may decide at the same time, and nothing of it is lost.
func TestControlTogether(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	const people = 30
	var g errgroup.Group
	for i := range people {
		g.Go(func() error {
			return p.Control(t.Context(), func(c *queue.Controls) error {
				if c.Tenants == nil {
					c.Tenants = map[string]queue.Tenant{}
				}
				c.Tenants[fmt.Sprint(i)] = queue.Tenant{Weight: 2}
				return nil
			})
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if c, err := p.Controls(t.Context()); err != nil || len(c.Tenants) != people {
		t.Errorf("%d tenants, want %d; %v", len(c.Tenants), people, err)
	}
}
