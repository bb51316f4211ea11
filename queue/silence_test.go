package queue_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// answers are what workers say of their messages: "+WPI" that they work, "-NAK" that
// they give one back.
func (p *pool) answers() <-chan *nats.Msg { return p.spy("$JS.ACK." + queue.StreamWork + ".>") }

// awaitAnswer gives the first answer to the nth delivery of a message that begins so.
func (p *pool) awaitAnswer(answers <-chan *nats.Msg, nth, begins string) *nats.Msg {
	p.t.Helper()
	for {
		m := await(p.t, answers, begins+" to delivery "+nth)
		if strings.Split(m.Subject, ".")[4] == nth && strings.HasPrefix(string(m.Data), begins) {
			return m
		}
	}
}

// A worker whose own message comes again, because the server was away or asleep, has
// the job already.
func TestOwnMessageComesAgain(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{AckWait: 4 * lease})
	answers := p.answers()
	var runs atomic.Int32
	release := make(chan struct{})
	p.worker(handle(func(context.Context, testArgs) (any, error) {
		runs.Add(1)
		<-release
		return "ok", nil
	}), worker.Config{Name: "w1", Slots: 2})
	id := p.submit(testArgs{}, jobs.Options{}).ID
	beat := p.awaitAnswer(answers, "1", "+WPI")
	if err := p.JetStream().Conn().Publish(beat.Subject, []byte("-NAK")); err != nil {
		t.Fatal(err)
	}
	p.awaitAnswer(answers, "2", "+WPI")
	close(release)
	if st := p.waitState(id, jobs.Done); st.Attempt != 1 || st.Poisoned != 0 || runs.Load() != 1 {
		t.Errorf("got %+v after %d runs", st.Record, runs.Load())
	}
}

// Two outages longer than the ack wait are no two crashes: the worker that lost the
// job in the first is there again.
func TestWorkerIsHeardOfAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		heard func(id jobs.ID, before, after time.Time) queue.Node
		want  jobs.State
	}{
		"without the job": {func(_ jobs.ID, before, after time.Time) queue.Node { return queue.Node{Started: before} }, jobs.Done},
		"another process": {func(_ jobs.ID, before, after time.Time) queue.Node { return queue.Node{Started: after} }, jobs.Retry},
		"stopped":         {func(_ jobs.ID, before, after time.Time) queue.Node { return queue.Node{Started: before, Left: true} }, jobs.Done},
		"stopped, and its handler was not": {func(id jobs.ID, before, after time.Time) queue.Node {
			return queue.Node{Started: before, Left: true, Running: []queue.RunningJob{{ID: id}}}
		}, jobs.Retry},
		"still on the job": {func(id jobs.ID, before, after time.Time) queue.Node {
			return queue.Node{Started: before, Running: []queue.RunningJob{{ID: id}}}
		}, jobs.Retry},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(t)
			p.scheduler(scheduler.Config{})
			before := time.Now()
			id := p.submit(testArgs{}, jobs.Options{}).ID
			m := p.pullByHand(id)
			for _, w := range []string{"first", "second"} {
				p.apply(p.get(id), p.claimOf(m, w))
			}
			n := tc.heard(id, before, time.Now())
			n.Name = "first"
			tell := p.Announce
			if n.Left {
				tell = p.Withdraw
			}
			if err := tell(t.Context(), n); err != nil {
				t.Fatal(err)
			}
			if err := m.Nak(); err != nil {
				t.Fatal(err)
			}
			p.worker(handle(func(context.Context, testArgs) (any, error) { return "third", nil }), worker.Config{Name: "third"})
			var st queue.Status
			p.until("decision", func() bool { st = p.get(id); return st.State == jobs.Done || st.State == jobs.Retry })
			if st.State != tc.want || tc.want == jobs.Retry && !st.Doubted() {
				t.Errorf("got %+v, want %s", st.Record, tc.want)
			}
			if st.State == jobs.Done && (st.Attempt != 2 || st.Poisoned != 1) {
				t.Errorf("got %+v", st.Record)
			}
		})
	}
}

// A worker that was stopped and could not hand its job back did not die of it, though it
// was gone before the job was given to another.
func TestWorkerThatStopped(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{})
	first := queue.Node{Name: "first", Started: time.Now()}
	id := p.submit(testArgs{}, jobs.Options{}).ID
	m := p.pullByHand(id)
	p.apply(p.get(id), p.claimOf(m, first.Name))
	if err := p.Withdraw(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if ws, err := p.Workers(t.Context()); err != nil || len(ws) > 0 {
		t.Errorf("on the list: %v, %v", ws, err)
	}
	p.apply(p.get(id), p.claimOf(m, "second"))
	if err := m.Nak(); err != nil {
		t.Fatal(err)
	}
	p.worker(handle(func(context.Context, testArgs) (any, error) { return "third", nil }), worker.Config{Name: "third"})
	if st := p.waitState(id, jobs.Done); st.Attempt != 2 || st.Poisoned != 1 {
		t.Errorf("got %+v", st.Record)
	}
}

// One worker died with the job, and the network of the second was away: heard of again
// before its silence is believed, it takes no job with it.
func TestLastSilenceIsDoubted(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{AckWait: lease})
	before := time.Now()
	id := p.submit(testArgs{}, jobs.Options{}).ID
	m := p.pullByHand(id)
	for _, w := range []string{"first", "second"} {
		p.apply(p.get(id), p.claimOf(m, w))
	}
	p.worker(handle(func(context.Context, testArgs) (any, error) { return "third", nil }), worker.Config{Name: "third"})
	p.until("doubt", func() bool { return p.get(id).Doubted() })
	p.explains(id, queue.ReasonRetry, "dead unless", "worker second fell silent")
	if err := p.Announce(t.Context(), queue.Node{Name: "second", Started: before}); err != nil {
		t.Fatal(err)
	}
	if st := p.waitState(id, jobs.Done); st.Attempt != 2 || st.Poisoned != 1 {
		t.Errorf("got %+v", st.Record)
	}
}

// A worker that lost a job and gets it again knows that it is back, whatever the list
// of workers says.
func TestWorkerIsBackItself(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	// It begins before its line has a consumer, so that it gets nothing yet.
	p.worker(handle(func(context.Context, testArgs) (any, error) { return "third", nil }), worker.Config{Name: "me"})
	p.until("the worker on the list", func() bool { ws, err := p.Workers(t.Context()); return err == nil && len(ws) == 1 })
	id := p.submit(testArgs{}, jobs.Options{}).ID
	for _, name := range []string{"me", "second"} { // by a message that is gone
		p.apply(p.get(id), jobs.Claim{Worker: name, Message: 7, At: time.Now()})
	}
	p.scheduler(scheduler.Config{Sweep: 100 * time.Millisecond})
	if st := p.waitState(id, jobs.Done); st.Attempt != 2 || st.Poisoned != 1 {
		t.Errorf("got %+v", st.Record)
	}
}

// The owner of a job and the worker that gets its message were cut off by the same
// outage: the owner has time to be heard of.
func TestOwnerIsWaitedForAfterAnOutage(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{})
	id := p.submit(testArgs{}, jobs.Options{}).ID
	m := p.pullByHand(id)
	owner := p.apply(p.get(id), p.claimOf(m, "owner"))
	p.worker(handle(func(context.Context, testArgs) (any, error) { return "second", nil }), worker.Config{Name: "w2"})
	p.until("the worker on the list", func() bool { ws, err := p.Workers(t.Context()); return err == nil && len(ws) == 1 })
	p.stop()
	p.start()
	p.until("reconnection", p.Connected)
	answers := p.answers()
	if err := m.Nak(); err != nil {
		t.Fatal(err)
	}
	p.awaitAnswer(answers, "2", "-NAK {")
	if st := p.get(id); st.Revision != owner.Revision {
		t.Errorf("the job was taken from its owner: %+v", st.Record)
	}
	p.apply(owner, jobs.Finish{Claim: owner.Revision, Result: []byte(`1`), At: time.Now()})
}

// The worker of a job that waits dies before the ack: whoever gets the message takes
// it away, as the job is admitted anew when it goes on.
func TestWaitingAndNotAcked(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{})
	child := p.submit(testArgs{}, jobs.Options{Class: jobs.Class{Kind: "test", OS: "none", Arch: jobs.Any, Feature: jobs.Any}}).ID
	id := p.submit(testArgs{}, jobs.Options{}).ID
	m := p.pullByHand(id)
	st := p.apply(p.get(id), p.claimOf(m, "gone"))
	p.apply(st, jobs.Wait{Claim: st.Revision, Children: []jobs.ID{child}, At: time.Now()})
	if err := m.Nak(); err != nil {
		t.Fatal(err)
	}
	p.worker(handle(func(context.Context, testArgs) (any, error) { return "ok", nil }), worker.Config{Name: "w1"})
	p.until("free subject", func() bool { return !p.inWork(id) })
	if _, err := p.Cancel(t.Context(), child, "enough"); err != nil {
		t.Fatal(err)
	}
	p.waitState(id, jobs.Done)
}
