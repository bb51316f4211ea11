package scheduler

import (
	"fmt"
	"testing"
	"time"

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

// The children of an urgent job are made urgent, and others are admitted before the last
// of them; a sweep finds those that an earlier leader left.
func TestRaiseInParts(t *testing.T) {
	const extra = 10
	for name, hear := range map[string]func(s *Scheduler, parent queue.Change) error{
		"heard of by the leader": func(s *Scheduler, parent queue.Change) error {
			s.leads = true
			s.change(t.Context(), parent)
			return nil
		},
		"heard of before": func(s *Scheduler, parent queue.Change) error {
			s.change(t.Context(), parent)
			return s.sweep(t.Context())
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t)
			var js []jobs.Job
			for range raiseBatch + extra {
				j, err := jobs.New(args{}, jobs.Options{})
				if err != nil {
					t.Fatal(err)
				}
				js = append(js, j)
			}
			sts, err := c.SubmitAll(t.Context(), js)
			if err != nil {
				t.Fatal(err)
			}
			s := New(c, nil, Config{})
			s.pool = newPool(1, s.limits.shutUntil)
			s.pool.catchUp()
			parent := queue.Change{Record: jobs.Record{ID: "test-parent", State: jobs.Waiting, Priority: jobs.Interactive,
				Class: testLine.Class, Tenant: jobs.DefaultTenant, Generation: 1, Deadline: time.Now().Add(time.Hour)}}
			for _, st := range sts {
				s.change(t.Context(), queue.Change{Record: st.Record, Revision: st.Revision})
				parent.Record.Children, parent.Revision = append(parent.Record.Children, st.ID), max(parent.Revision, st.Revision+1)
			}
			if err := hear(s, parent); err != nil {
				t.Fatal(err)
			}
			for _, want := range []int{extra, 0} {
				s.raiseCalm(t.Context())
				if n := len(s.pool.calm); n != want {
					t.Errorf("%d are left, want %d", n, want)
				}
			}
			now, err := c.GetAll(t.Context(), parent.Record.Children, "", 0)
			if err != nil {
				t.Fatal(err)
			}
			for id, st := range now {
				if st.Priority != jobs.Interactive {
					t.Fatalf("%s is %s", id, st.Priority)
				}
			}
		})
	}
}

// However many children nobody needs any more, others are admitted before the last of
// them is cancelled; one that somebody came to need meanwhile is spared, and one that
// cannot be cancelled is in nobody's way.
func TestCancelIdleInParts(t *testing.T) {
	const extra = 10
	c := client(t)
	s := New(c, nil, Config{})
	s.pool = newPool(1, s.limits.shutUntil)
	s.pool.catchUp()
	s.leads = true
	var js []jobs.Job
	for range cancelBatch + extra {
		j, err := jobs.New(args{}, jobs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		j.Parent = "test-parent"
		js = append(js, j)
	}
	children, err := c.SubmitAll(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	parent, last := jobs.Record{ID: "test-parent", State: jobs.Waiting, Class: testLine.Class, Priority: jobs.Bulk}, uint64(0)
	for _, st := range children {
		s.change(t.Context(), queue.Change{Record: st.Record, Revision: st.Revision})
		parent.Children, last = append(parent.Children, st.Record.ID), max(last, st.Revision)
	}
	ghost := children[1].Record
	ghost.ID = "test-ghost" // somebody removed its record
	s.change(t.Context(), queue.Change{Record: ghost, Revision: 1})
	parent.Children = append([]jobs.ID{ghost.ID}, parent.Children...)
	s.change(t.Context(), queue.Change{Record: parent, Revision: last + 1})
	parent.State = jobs.Cancelled
	s.change(t.Context(), queue.Change{Record: parent, Revision: last + 2})
	other := parent
	other.ID, other.State, other.Children = "test-other", jobs.Waiting, parent.Children[1:2]
	s.change(t.Context(), queue.Change{Record: other, Revision: last + 3})
	for _, want := range []int{extra + 1, 0} {
		if err := s.cancelIdle(t.Context()); err != nil || len(s.pool.idle) != want {
			t.Fatalf("%d are left, want %d; %v", len(s.pool.idle), want, err)
		}
	}
	for i, st := range children {
		now, err := c.Get(t.Context(), st.Record.ID)
		if err != nil {
			t.Fatal(err)
		}
		if needed := i == 0; (now.State == jobs.Queued) != needed || (now.State == jobs.Cancelled) == needed {
			t.Errorf("child %d is %s; somebody needs it: %v", i, now.State, needed)
		}
	}
}

// Somebody asks for a running child after the scheduler has looked whether anybody does,
// and before it is cancelled. (From the edge it cannot be arranged that it is just then.)
func TestAskedForWhileItIsCancelled(t *testing.T) {
	c := client(t)
	s := New(c, nil, Config{})
	for asked, want := range map[bool]jobs.State{true: jobs.Queued, false: jobs.Cancelled} {
		j, err := jobs.New(args{}, jobs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		child := j
		child.Parent = "test-parent"
		running, err := c.Submit(t.Context(), child)
		if err == nil {
			running, err = c.Apply(t.Context(), running, jobs.Claim{Worker: "w1", At: time.Now()})
		}
		if err == nil && asked {
			_, err = c.Submit(t.Context(), j)
		}
		var cancelled queue.Status
		if err == nil {
			cancelled, err = c.Apply(t.Context(), running, jobs.Cancel{At: time.Now()})
		}
		if err == nil {
			err = s.reopen(t.Context(), cancelled)
		}
		if err != nil {
			t.Fatal(err)
		}
		if now, err := c.Get(t.Context(), j.ID); err != nil || now.State != want {
			t.Errorf("asked for: %v; it is %s, want %s; %v", asked, now.State, want, err)
		}
	}
}

// A list that is longer than what is cancelled between two sweeps does not grow by them,
// and what was on it comes on it again.
func TestDropOnce(t *testing.T) {
	m := newModel(1)
	m.told(jobs.Record{ID: "test-layer", State: jobs.Queued})
	s := &Scheduler{pool: m.pool}
	swept := func(times, want int) {
		t.Helper()
		for range times {
			s.sweepOrphan(m.jobs["test-layer"])
		}
		if len(m.idle) != want {
			t.Errorf("%d are on the list, want %d", len(m.idle), want)
		}
	}
	swept(1, 0)
	swept(3, 1)
	m.undrop(1)
	swept(2, 1)
}

// What an urgent job waited for that has ended, a sweep does not make urgent.
func TestCalmOfOneThatEnded(t *testing.T) {
	m := newModel(1)
	m.told(jobs.Record{ID: "test-layer", State: jobs.Queued})
	parent := jobs.Record{ID: "test-parent", State: jobs.Waiting, Priority: jobs.Interactive, Children: []jobs.ID{"test-layer"}}
	m.told(parent)
	if m.sweepCalm(); len(m.calm) != 1 {
		t.Errorf("while it waits %d are to be urgent, want 1", len(m.calm))
	}
	parent.State = jobs.Cancelled
	m.told(parent)
	if m.sweepCalm(); len(m.calm) != 0 {
		t.Errorf("once it is cancelled %d are to be urgent, want none", len(m.calm))
	}
}

// A job that was asked for twice before its children ended hears of each end twice, and
// is still one that the sweep finds.
func TestSweepOfOneThatWasAskedForTwice(t *testing.T) {
	m := newModel(1)
	children := []jobs.ID{"test-a", "test-b"}
	for _, id := range children {
		m.told(jobs.Record{ID: id, State: jobs.Queued})
	}
	m.told(jobs.Record{ID: "test-parent", State: jobs.Waiting, Children: children})
	parent := m.jobs["test-parent"]
	m.link(waiter{parent, parent.revision}, children) // as resume does
	for _, id := range children {
		m.told(jobs.Record{ID: id, State: jobs.Done})
	}
	m.ready = nil // it could not be resumed
	s := &Scheduler{pool: m.pool}
	if err := s.sweepJob(t.Context(), parent, sighting{}); err != nil || len(m.ready) != 1 {
		t.Errorf("%d jobs are asked for again, want 1; %v", len(m.ready), err)
	}
}
