package queue_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

var testClass = jobs.Class{Kind: "test", OS: jobs.Any, Arch: jobs.Any, Feature: jobs.Any}

// spy hears what anybody publishes to a subject.
func (p *pool) spy(subject string) <-chan *nats.Msg {
	p.t.Helper()
	nc, heard := p.JetStream().Conn(), make(chan *nats.Msg, 256)
	if _, err := nc.ChanSubscribe(subject, heard); err != nil {
		p.t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		p.t.Fatal(err)
	}
	return heard
}

// store writes spec and record as another version would.
func (p *pool) store(id jobs.ID, spec, record string) {
	p.t.Helper()
	p.put(id, ".spec", spec)
	p.put(id, ".run", record)
}

// put writes one of the two.
func (p *pool) put(id jobs.ID, part, data string) {
	p.t.Helper()
	if _, err := p.JetStream().Publish(p.t.Context(), "st."+id.Scope()+"."+id.Key()+part, []byte(data)); err != nil {
		p.t.Fatal(err)
	}
}

// complaints are lines of a log at Warn and above.
type complaints struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (c *complaints) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.b.Write(b)
}

// with are the lines that hold a text.
func (c *complaints) with(text string) (lines []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for line := range strings.Lines(c.b.String()) {
		if strings.Contains(line, text) {
			lines = append(lines, line)
		}
	}
	return lines
}

// After a roll-back the pool holds what a later version wrote. It stays as it is,
// is complained about once, and keeps nobody from the others.
func TestUnreadableJobs(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	const state, class = jobs.ID("test-state"), jobs.ID("test-class")
	p.store(state, `{"id":"test-state","kind":"test","class":"test"}`,
		`{"id":"test-state","class":"test","state":"awaiting","generation":1,"max_attempts":5}`)
	p.store(class, `{"id":"test-class","kind":"test","class":"test/linux/arm64/gpu/large"}`,
		`{"id":"test-class","class":"test","state":"queued","generation":1,"max_attempts":5}`)
	if _, err := p.JetStream().Publish(t.Context(), bulk(testClass).Subject(state), nil); err != nil {
		t.Fatal(err)
	}
	var log complaints
	ready := make(chan struct{})
	p.run("scheduler", scheduler.New(p.connect("scheduler"), validators, scheduler.Config{Sweep: 20 * time.Millisecond, AckWait: calm, Ready: func() { close(ready) },
		Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))}).Run)
	await(t, ready, "end of the records, of which none can be read")
	for i := range 3 { // each by a later sweep than the one before it
		id := p.submit(testArgs{Name: fmt.Sprint(i)}, jobs.Options{Timeout: time.Millisecond}).ID
		p.waitState(id, jobs.Failed)
	}
	answers := p.spy("$JS.ACK." + queue.StreamWork + ".>")
	p.worker(handle(func(context.Context, testArgs) (any, error) { return nil, nil }), worker.Config{Name: "w1", Slots: 1})
	if m := await(t, answers, "answer to the message"); !strings.Contains(string(m.Data), fmt.Sprint(int64(time.Minute))) {
		t.Errorf("the worker said %s, want it to leave the message for a minute", m.Data)
	}
	p.waitState(p.submit(testArgs{}, jobs.Options{}).ID, jobs.Done)

	// The first is seen twice: as a record that is not followed, as a message that is left.
	for text, want := range map[string]int{"awaiting": 2, "gpu/large": 1} {
		if got := log.with(text); len(got) != want {
			t.Errorf("%d complaints about %s, want %d:\n%s", len(got), text, want, strings.Join(got, ""))
		}
	}
	if !p.inWork(state) || p.inWork(class) {
		t.Error("a job that cannot be read was touched")
	}
}

// A consumer that somebody deleted is made again, and its class goes on.
func TestDeletedConsumer(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: 20 * time.Millisecond})
	p.worker(handle(func(context.Context, testArgs) (any, error) { return nil, nil }), worker.Config{Name: "w1"})
	p.waitState(p.submit(testArgs{}, jobs.Options{}).ID, jobs.Done)
	if err := p.JetStream().DeleteConsumer(t.Context(), queue.StreamWork, bulk(testClass).Consumer()); err != nil {
		t.Fatal(err)
	}
	p.waitState(p.submit(testArgs{}, jobs.Options{}).ID, jobs.Done)
}

// The history that a power cut took is made again.
func TestLostHistory(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: 20 * time.Millisecond})
	p.until("EVENTS", func() bool { return p.JetStream().DeleteStream(t.Context(), "EVENTS") == nil })
	p.until("EVENTS again", func() bool { _, err := p.JetStream().Stream(t.Context(), "EVENTS"); return err == nil })
}

// The time of a retry comes before its worker has acked the attempt that failed:
// it is admitted soon after the ack, and not by the next sweep.
func TestRetryMeetsItsOldMessage(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: time.Hour})
	published := p.spy(bulk(testClass).Subject("*"))
	id := p.submit(testArgs{}, jobs.Options{}).ID
	m := p.pullByHand(id)
	st := p.apply(p.get(id), jobs.Claim{Worker: "w1", At: time.Now()})
	p.apply(st, jobs.Fail{Claim: st.Revision, Failure: jobs.Failure{Class: jobs.ClassTransient}, Delay: time.Millisecond, At: time.Now()})
	for _, which := range []string{"first admission", "second one, refused", "third one, refused"} {
		await(t, published, which)
	}
	if err := m.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.until("another admission", func() bool { return p.inWork(id) })
}

// A job that died is opened again before its worker has acked: it is admitted soon
// after the ack, and not by the next sweep.
func TestReopenedMeetsItsOldMessage(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: time.Hour})
	published := p.spy(bulk(testClass).Subject("*"))
	o := jobs.Options{IdempotencyKey: "k", MaxAttempts: 1}
	id := p.submit(testArgs{}, o).ID
	m := p.pullByHand(id)
	st := p.apply(p.get(id), jobs.Claim{Worker: "w1", At: time.Now()})
	p.apply(st, jobs.Fail{Claim: st.Revision, Failure: jobs.Failure{Class: jobs.ClassTransient}, At: time.Now()})
	if st := p.submit(testArgs{}, o); st.Generation != 2 {
		t.Fatalf("got %+v", st.Record)
	}
	for _, which := range []string{"first admission", "second one, refused", "third one, refused"} {
		await(t, published, which)
	}
	if err := m.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.until("another admission", func() bool { return p.inWork(id) })
}
