package scheduler

import (
	"fmt"
	"testing"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// Images that end one by one while they wait for one layer ask each time whether
// another does: each of them is looked at once.
func TestWaitedForIsLinear(t *testing.T) {
	const images = 1000
	m := newModel(1)
	m.told(jobs.Record{ID: "test-layer", State: jobs.Queued})
	image := func(i int) jobs.ID { return jobs.ID(fmt.Sprintf("test-%d", i)) }
	for i := range images {
		m.told(jobs.Record{ID: image(i), State: jobs.Waiting, Children: []jobs.ID{"test-layer"}})
	}
	layer := m.jobs["test-layer"]
	for i := range images {
		m.told(jobs.Record{ID: image(i), State: jobs.Cancelled})
		if got, want := m.waitedFor(layer), i < images-1; got != want {
			t.Fatalf("after %d ends: waited for is %v", i+1, got)
		}
		if n := len(layer.parents); n > images-i-1 {
			t.Fatalf("after %d ends %d parents are looked at again", i+1, n)
		}
	}
}

// However many jobs may go on at once, others are admitted before the last of them.
func TestResumeInParts(t *testing.T) {
	const extra = 10
	s := New(client(t), nil, Config{})
	s.pool = newPool(1, s.limits.shutUntil)
	s.pool.catchUp()
	for i := range resumeBatch + extra {
		s.pool.update(queue.Change{Revision: uint64(i + 1), Record: jobs.Record{ID: jobs.ID(fmt.Sprintf("test-%d", i)), State: jobs.Waiting,
			Class: testLine.Class, Priority: jobs.Bulk, Tenant: jobs.DefaultTenant, Generation: 1}})
	}
	for _, e := range s.pool.jobs {
		e.revision = 0 // they have moved on: there is nothing to ask for
	}
	if wait := s.admit(t.Context()); wait != 0 || len(s.pool.ready) != extra {
		t.Errorf("%d are left, the next look is in %v", len(s.pool.ready), wait)
	}
	if wait := s.admit(t.Context()); wait == 0 || len(s.pool.ready) != 0 {
		t.Errorf("then %d are left, the next look is in %v", len(s.pool.ready), wait)
	}
}
