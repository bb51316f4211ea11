package queue_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// named runs a scheduler whose connection the test can cut.
func (p *pool) named(name string) (client *queue.Client, stop func()) {
	p.t.Helper()
	client = p.connect(name)
	s := scheduler.New(client, validators, scheduler.Config{Name: name, AckWait: calm, Log: p.log.With("service", name)})
	return client, p.run(name, func(ctx context.Context) error {
		if err := s.Run(ctx); client.JetStream().Conn().IsConnected() {
			return err
		}
		return nil
	})
}

// leader waits until the list has as many schedulers, and gives the one that leads.
func (p *pool) leader(of int, not ...string) (name string) {
	p.t.Helper()
	p.until("leader", func() bool {
		found, err := p.Schedulers(p.t.Context())
		name = ""
		for _, s := range found {
			if s.Leads {
				name = s.Name
			}
		}
		return err == nil && len(found) >= of && name != "" && !slices.Contains(not, name)
	})
	return name
}

func (p *pool) ok(name string) (stop func()) {
	return p.worker(handle(func(context.Context, testArgs) (any, error) { return "ok", nil }), worker.Config{Name: name})
}

func TestStandbyTakesOverFromOneThatStops(t *testing.T) {
	p := newPool(t)
	_, stop := p.named("a")
	p.leader(1)
	p.named("b")
	if got := p.leader(2); got != "a" {
		t.Fatalf("%s leads, want a: it was first", got)
	}
	p.ok("w")
	p.waitState(p.submit(testArgs{}, jobs.Options{}).ID, jobs.Done)
	stop()
	gone := time.Now()
	if e, err := p.lease().Get(t.Context(), "leader"); err == nil && string(e.Value()) == "a" {
		t.Error("a has ended and did not give the lead up")
	}
	p.leader(1, "a")
	t.Log("b leads", time.Since(gone).Round(time.Millisecond), "after a had ended")
	p.waitState(p.submit(testArgs{}, jobs.Options{}).ID, jobs.Done)
}

// A leader that dies in silence is missed within its lease; a job that died
// meanwhile has its letter.
func TestStandbyTakesOverFromOneThatIsGone(t *testing.T) {
	p := newPool(t)
	lost, _ := p.named("a")
	p.leader(1)
	p.named("b")
	p.leader(2)
	lost.Close()
	gone := time.Now()
	st := p.apply(p.submit(testArgs{}, jobs.Options{MaxAttempts: 1}), jobs.Claim{Worker: "w1", At: time.Now()})
	p.apply(st, jobs.Fail{Claim: st.Revision, Failure: jobs.Failure{Class: jobs.ClassTransient, Message: "boom"}, At: time.Now()})
	id := p.submit(testArgs{}, jobs.Options{}).ID
	p.leader(2, "a")
	t.Log("b leads", time.Since(gone).Round(time.Millisecond), "after a was cut off")
	p.ok("w")
	p.waitState(id, jobs.Done)
	p.until("the dead letter", func() bool {
		letter, err := p.DeadLetter(t.Context(), st.ID)
		return err == nil && letter.Failure.Message == "boom"
	})
}

// The lease and the list are in the server's memory: a scheduler that is alone makes
// them again.
func TestLeaderOutlivesServer(t *testing.T) {
	p := newPool(t)
	p.named("a")
	p.leader(1)
	p.stop()
	p.start()
	p.leader(1)
}

// The lease proves nothing: while two schedulers believe that they lead, each job
// runs once.
func TestTwoLead(t *testing.T) {
	p := newPool(t)
	p.named("a")
	p.named("b")
	p.leader(2)
	p.ok("w")
	var ids []jobs.ID
	var order []string
	for i := range 60 {
		if i%5 == 0 { // the one that stands by takes it at once; the other looks a second later
			order = append(order, p.leader(2))
			if err := p.lease().Delete(t.Context(), "leader"); err != nil {
				t.Fatal(err)
			}
		}
		ids = append(ids, p.submit(testArgs{Name: fmt.Sprint(i)}, jobs.Options{}).ID)
	}
	for _, id := range ids {
		if st := p.waitState(id, jobs.Done); st.Attempt != 1 {
			t.Errorf("got %+v, want one attempt", st.Record)
		}
	}
	if slices.Sort(order); len(slices.Compact(order)) != 2 {
		t.Errorf("only %s led", order)
	}
}

func (p *pool) lease() jetstream.KeyValue {
	p.t.Helper()
	kv, err := p.JetStream().KeyValue(p.t.Context(), "schedulers")
	if err != nil {
		p.t.Fatal(err)
	}
	return kv
}

func TestExplainWithoutLeader(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := p.JetStream().Publish(t.Context(), "$KV.schedulers.leader", []byte("ghost"), jetstream.WithMsgTTL(time.Hour)); err != nil {
		t.Fatal(err)
	}
	id := p.submit(testArgs{}, jobs.Options{}).ID
	why := func() string {
		x, err := p.Explain(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(x.Reasons)
	}
	if got := why(); !strings.Contains(got, "no scheduler is running") {
		t.Errorf("got %s without any", got)
	}
	p.named("a")
	p.until("a on the list", func() bool {
		found, err := p.Schedulers(t.Context())
		return err == nil && len(found) == 1
	})
	if got := why(); !strings.Contains(got, "a stands by") {
		t.Errorf("got %s with one that stands by", got)
	}
	if p.inWork(id) {
		t.Error("admitted by a scheduler that stands by")
	}
	if err := p.lease().Delete(t.Context(), "leader"); err != nil {
		t.Fatal(err)
	}
	p.until("admission", func() bool { return p.inWork(id) })
}
