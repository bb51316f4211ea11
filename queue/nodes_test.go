package queue_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
)

// The list that an earlier version made becomes one that nobody can empty, and who is
// on it stays.
func TestListOfAnEarlierVersion(t *testing.T) {
	p := newPool(t)
	_, err := p.JetStream().CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "nodes", LimitMarkerTTL: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	early := func(name string) {
		t.Helper()
		if _, err := p.JetStream().Publish(t.Context(), "$KV.nodes."+name, []byte(`{"name":"`+name+`"}`), jetstream.WithMsgTTL(30*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	early("before")
	for range 2 { // a start, and the next
		if err := p.Setup(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	early("after")
	if err := p.Announce(t.Context(), queue.Node{Name: "new"}); err != nil {
		t.Fatal(err)
	}
	m := nats.NewMsg("$KV.nodes.hostile")
	m.Header.Set("Nats-Rollup", "all")
	if _, err := p.JetStream().PublishMsg(t.Context(), m); err == nil {
		t.Error("it takes roll-ups")
	}
	if ws, err := p.Workers(t.Context()); err != nil || len(ws) != 3 {
		t.Errorf("listed: %+v, %v", ws, err)
	}
}

// A worker whose word has run out is none for the scheduler, either.
func TestSilentWorkerIsForgotten(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: 50 * time.Millisecond})
	p.until("list", func() bool { _, err := p.Workers(t.Context()); return err == nil })
	id := p.submit(testArgs{}, jobs.Options{}).ID
	class := jobs.Class{Kind: "test", OS: jobs.Any, Arch: jobs.Any, Feature: jobs.Any}
	n := queue.Node{Name: "ghost", Slots: 1, Classes: []jobs.Class{class}, Running: []queue.RunningJob{{ID: "test-other"}}}
	if err := p.Announce(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	p.explains(id, queue.ReasonBusy)
	s, err := p.JetStream().Stream(t.Context(), "KV_nodes")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil { // as time does
		t.Fatal(err)
	}
	p.explains(id, queue.ReasonNoWorker, "no worker is here")
}
