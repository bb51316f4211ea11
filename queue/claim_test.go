package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

func (p *pool) get(id jobs.ID) queue.Status {
	p.t.Helper()
	st, err := p.Get(p.t.Context(), id)
	if err != nil {
		p.t.Fatal(err)
	}
	return st
}

func (p *pool) apply(st queue.Status, e jobs.Edge) queue.Status {
	p.t.Helper()
	st, err := p.Apply(p.t.Context(), st, e)
	if err != nil {
		p.t.Fatal(err)
	}
	return st
}

func (p *pool) refused(st queue.Status, e jobs.Edge) {
	p.t.Helper()
	before := p.get(st.ID)
	if _, err := p.Apply(p.t.Context(), st, e); !errdefs.IsConflict(err) {
		p.t.Errorf("%T from revision %d: got %v, want a conflict", e, st.Revision, err)
	}
	if after := p.get(st.ID); after.Revision != before.Revision {
		p.t.Errorf("%T was refused and written", e)
	}
}

// Two workers on one job, step by step: the server takes one claim and one result.
func TestStaleClaim(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	claimA, claimB := jobs.Claim{Worker: "a", At: now}, jobs.Claim{Worker: "b", At: now}
	finish := func(by string) jobs.Finish { return jobs.Finish{Result: json.RawMessage(`"` + by + `"`), At: now} }

	t.Run("B claims between A's read and A's claim", func(t *testing.T) {
		id := p.submit(testArgs{}, jobs.Options{}).ID
		a, b := p.get(id), p.get(id)
		p.apply(b, claimB)
		p.refused(a, claimA)
	})
	t.Run("A commits between B's read and B's claim", func(t *testing.T) {
		id := p.submit(testArgs{}, jobs.Options{}).ID
		a := p.apply(p.get(id), claimA)
		b := p.get(id)
		p.apply(a, finish("a"))
		p.refused(b, claimB)
		if st := p.get(id); st.State != jobs.Done || st.Worker != "a" {
			t.Errorf("got %+v", st.Record)
		}
	})
	t.Run("A commits after B took over", func(t *testing.T) {
		id := p.submit(testArgs{}, jobs.Options{}).ID
		a := p.apply(p.get(id), claimA)
		b := p.apply(p.get(id), claimB)
		p.refused(a, finish("a"))
		p.apply(b, finish("b"))
		p.refused(a, finish("a"))
		if st := p.get(id); result[string](t, st) != "b" {
			t.Errorf("got %s", st.Result)
		}
	})
	t.Run("A commits after a cancel", func(t *testing.T) {
		id := p.submit(testArgs{}, jobs.Options{}).ID
		a := p.apply(p.get(id), claimA)
		if _, err := p.Cancel(t.Context(), id, "stop"); err != nil {
			t.Fatal(err)
		}
		p.refused(a, finish("a"))
	})
	t.Run("a stale submit over a done job", func(t *testing.T) {
		st := p.submit(testArgs{Name: "k"}, jobs.Options{IdempotencyKey: "k"})
		done := p.apply(p.apply(st, claimA), finish("a"))
		if again := p.submit(testArgs{Name: "k"}, jobs.Options{IdempotencyKey: "k"}); again.Revision != done.Revision {
			t.Errorf("done job was opened again: %+v", again.Record)
		}
	})
}

// pullByHand plays a worker that takes a message and then hangs with its process.
func (p *pool) pullByHand(id jobs.ID) jetstream.Msg {
	p.t.Helper()
	p.until("admission", func() bool { return p.inWork(id) })
	cons, err := p.JetStream().Consumer(p.t.Context(), queue.StreamWork, queue.LineOf(p.get(id).Record).Consumer())
	if err != nil {
		p.t.Fatal(err)
	}
	m, err := cons.Next(jetstream.FetchMaxWait(patience))
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

// claimOf is a worker's claim by a message.
func (p *pool) claimOf(m jetstream.Msg, worker string) jobs.Claim {
	p.t.Helper()
	md, err := m.Metadata()
	if err != nil {
		p.t.Fatal(err)
	}
	return jobs.Claim{Worker: worker, Message: md.Sequence.Stream, At: time.Now()}
}

func TestSilentWorkerLosesItsClaim(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{AckWait: lease})
	id := p.submit(testArgs{}, jobs.Options{}).ID
	m := p.pullByHand(id)
	late := p.apply(p.get(id), p.claimOf(m, "late"))
	p.worker(handle(func(context.Context, testArgs) (any, error) { return "second", nil }), worker.Config{Name: "w2"})
	done := p.waitState(id, jobs.Done)
	p.refused(late, jobs.Finish{Claim: late.Revision, Result: []byte(`"late"`), At: time.Now()})
	if err := m.DoubleAck(t.Context()); err != nil {
		t.Log("the late ack:", err)
	}
	if st := p.get(id); result[string](t, st) != "second" || st.Revision != done.Revision || st.Attempt < 2 {
		t.Errorf("got %+v", st.Record)
	}
}

// The claim of a running handler is taken over: its context says so, and its
// result goes nowhere.
func TestLostClaimStopsTheHandler(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{}) // only the hint can be this fast
	started, cause := make(chan struct{}), make(chan error, 1)
	stop := p.worker(handle(func(ctx context.Context, _ testArgs) (any, error) {
		close(started)
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return "first", nil
	}), worker.Config{Name: "w1"})
	id := p.submit(testArgs{}, jobs.Options{}).ID
	await(t, started, "start")
	st := p.get(id)
	second := p.apply(st, jobs.Claim{Worker: "w2", Message: st.Message, At: time.Now()})
	if err := await(t, cause, "cancellation"); !errors.Is(err, worker.ErrLost) {
		t.Errorf("cause %v", err)
	}
	stop()
	if st := p.get(id); st.Revision != second.Revision {
		t.Errorf("the first worker wrote: %+v", st.Record)
	}
	if !p.inWork(id) {
		t.Error("the first worker acked the second one's message")
	}
}

func TestProofOfLife(t *testing.T) {
	const silence = time.Second
	p := newPool(t)
	p.scheduler(scheduler.Config{})
	p.worker(handle(func(ctx context.Context, a testArgs) (any, error) {
		work := time.After(3 * silence)
		switch a.Name {
		case "hung":
			<-ctx.Done()
			return nil, ctx.Err()
		case "quiet":
			defer jobs.Quiet(ctx, time.Minute, "dump")()
		case "quiet too long":
			defer jobs.Quiet(ctx, silence/4, "dump")()
		}
		for tick := time.Tick(silence / 20); ; {
			select {
			case <-tick:
				if a.Name == "alive" {
					jobs.Alive(ctx, 1)
				}
			case <-work:
				return "ok", nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}), worker.Config{Name: "w1", Silence: silence, Slots: 4})
	for _, tc := range []struct {
		name    string
		state   jobs.State
		message string
	}{
		{"alive", jobs.Done, ""},
		{"quiet", jobs.Done, ""},
		{"hung", jobs.Dead, "no proof of life"},
		{"quiet too long", jobs.Dead, `after the bound of "dump"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel() // a slot each
			st := p.waitState(p.submit(testArgs{Name: tc.name}, jobs.Options{MaxAttempts: 1}).ID, tc.state)
			if tc.message != "" && !strings.Contains(st.Failure.Message, tc.message) {
				t.Errorf("got %+v %+v", st.Record, st.Failure)
			}
		})
	}
}

// A handler that hangs and does not hear its context keeps its slot, not its job.
func TestDeafHandlerLosesItsJob(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{AckWait: lease})
	second := make(chan struct{})
	var runs atomic.Int32
	p.worker(handle(func(context.Context, testArgs) (any, error) {
		if runs.Add(1) == 1 {
			<-second
			return "first", nil
		}
		return "second", nil
	}), worker.Config{Name: "w1", Silence: lease / 2})
	st := p.waitState(p.submit(testArgs{}, jobs.Options{}).ID, jobs.Done)
	close(second)
	if result[string](t, st) != "second" || st.Attempt < 2 {
		t.Errorf("got %+v", st.Record)
	}
}

func TestDrain(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{})
	release, started, handed := make(chan struct{}), make(chan string, 2), make(chan error, 1)
	stop := p.worker(handle(func(ctx context.Context, a testArgs) (any, error) {
		started <- a.Name
		select {
		case <-release:
			return "first", nil
		case <-ctx.Done():
			handed <- context.Cause(ctx)
			return nil, ctx.Err()
		}
	}), worker.Config{Name: "w1", Grace: 300 * time.Millisecond})

	t.Run("finishes within the grace", func(t *testing.T) {
		id := p.submit(testArgs{}, jobs.Options{}).ID
		await(t, started, "start")
		close(release)
		p.waitState(id, jobs.Done)
	})
	release = nil // from here on only ctx ends a job
	id := p.submit(testArgs{}, jobs.Options{MaxAttempts: 1}).ID
	await(t, started, "start")
	go stop()
	if err := await(t, handed, "drain"); !errors.Is(err, worker.ErrDraining) {
		t.Errorf("cause %v", err)
	}
	stop()
	if st := p.get(id); st.State != jobs.Queued || st.Attempt != 0 {
		t.Errorf("handed back: %+v", st.Record)
	}
	if ws, err := p.Workers(t.Context()); err != nil || len(ws) != 0 {
		t.Errorf("still listed: %v, %v", ws, err)
	}
	p.worker(handle(func(context.Context, testArgs) (any, error) { return "second", nil }), worker.Config{Name: "w2"})
	if st := p.waitState(id, jobs.Done); st.Attempt != 1 || st.Worker != "w2" {
		t.Errorf("got %+v", st.Record)
	}
}

// A worker that stops asks for no more jobs, however many classes it has and
// slots are free.
func TestStoppedWorkerPullsNoMore(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{})
	const n = 20
	var classes []jobs.Class
	for i := range n {
		classes = append(classes, jobs.Class{Kind: "test", OS: jobs.Any, Arch: jobs.Any, Feature: fmt.Sprint(i)})
	}
	pulls, idle := p.spy("$JS.API.CONSUMER.MSG.NEXT."+queue.StreamWork+".>"), map[string]bool{}
	stop := p.worker(handle(nil), worker.Config{Name: "w1", Classes: classes})
	for len(idle) < n*len(jobs.Priorities) {
		idle[await(t, pulls, "pull").Subject] = true
	}
	for len(pulls) > 0 {
		<-pulls
	}
	stop()
	if err := p.JetStream().Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	if more := len(pulls); more > n/2 { // some may be about to
		t.Errorf("%d pulls for %d classes of two priorities after the stop", more, n)
	}
}

// A second message of a running job, as a promotion that races with a claim leaves
// it, takes nothing from the worker that has the job.
func TestDuplicateMessage(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{})
	started, release := make(chan struct{}), make(chan struct{})
	p.worker(handle(func(context.Context, testArgs) (any, error) {
		started <- struct{}{}
		<-release
		return "ok", nil
	}), worker.Config{Name: "w1"})
	id := p.submit(testArgs{}, jobs.Options{}).ID
	await(t, started, "start")
	st := p.get(id)
	p.purge(id)
	m := p.Admission(st)
	m.Header = nil // not sent for this claim
	if _, err := p.JetStream().PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	p.until("end of the duplicate", func() bool { return !p.inWork(id) })
	if now := p.get(id); now.Revision != st.Revision {
		t.Errorf("the duplicate changed the record: %+v", now.Record)
	}
	close(release)
	if st := p.waitState(id, jobs.Done); st.Attempt != 1 || st.Poisoned != 0 {
		t.Errorf("got %+v", st.Record)
	}
}
