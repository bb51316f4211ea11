package scheduler

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/natsd"
)

type args struct{}

func (args) Kind() string    { return "test" }
func (args) Validate() error { return nil }

// client is of a pool without a scheduler.
func client(t *testing.T) *queue.Client {
	t.Helper()
	srv, err := natsd.Start(natsd.Config{Dir: filepath.Join(t.TempDir(), "store"), ContextFile: "-", InProcess: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Stop() })
	c, err := queue.Connect(t.Context(), srv.Client())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	return c
}

// A scheduler that is behind, because it was cut off, does not publish for a job what
// somebody took away since. (From the edge it cannot be arranged that it is behind.)
func TestSweepOfAnOldPool(t *testing.T) {
	c := client(t)
	j, err := jobs.New(args{}, jobs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	queued, err := c.Submit(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	running, err := c.Apply(t.Context(), queued, jobs.Claim{Worker: "w1", At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Apply(t.Context(), running, jobs.Wait{Claim: running.Revision, Children: []jobs.ID{"test-x"}, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	s := New(c, nil, Config{})
	for _, st := range []queue.Status{queued, running} {
		s.pool = newPool(1, s.limits.shutUntil)
		s.pool.update(queue.Change{Record: st.Record, Revision: st.Revision})
		e := s.pool.jobs[st.ID]
		s.pool.setAdmitted(e, true)
		e.missing = e.revision
		if err := s.sweepJob(t.Context(), e, sighting{}); err != nil {
			t.Fatal(err)
		}
		if work, err := s.messages(t.Context()); err != nil || len(work) > 0 {
			t.Errorf("%s, and waiting since: published %v, %v", st.State, work, err)
		}
	}
}

// A sweep that comes before all records were read takes no child for an orphan: its
// parent may be among those that come. (From the edge a start is too quick.)
func TestSweepBeforeAllIsRead(t *testing.T) {
	c := client(t)
	j, err := jobs.New(args{}, jobs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	j.Parent = "test-parent"
	child, err := c.Submit(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	s := New(c, nil, Config{})
	s.pool = newPool(1, s.limits.shutUntil)
	s.leads = true
	s.change(t.Context(), queue.Change{Record: child.Record, Revision: child.Revision})
	for range 3 {
		if err := errors.Join(s.sweep(t.Context()), s.cancelIdle(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := c.Get(t.Context(), j.ID); err != nil || st.State != jobs.Queued {
		t.Errorf("the child is %s, %v", st.State, err)
	}
	s.change(t.Context(), queue.Change{Revision: child.Revision + 1, Last: true}) // an unreadable one
	for range 2 {
		if err := errors.Join(s.sweep(t.Context()), s.cancelIdle(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := c.Get(t.Context(), j.ID); err != nil || st.State != jobs.Cancelled {
		t.Errorf("once all are read, the child that nobody waits for is %s, %v", st.State, err)
	}
}

// A sweep asks the server for all lines at once.
func TestSweepRequests(t *testing.T) {
	c := client(t)
	conn := c.JetStream().Conn()
	s := New(c, nil, Config{})
	s.pool = newPool(1, s.limits.shutUntil)
	s.leads, s.decided = true, true // else it asks for that, once
	requests := func() int {
		sub, err := conn.SubscribeSync("$JS.API.>")
		if err == nil {
			err = errors.Join(s.sweep(t.Context()), conn.Flush())
		}
		if err != nil {
			t.Fatal(err)
		}
		n, _, err := sub.Pending()
		if err = errors.Join(err, sub.Unsubscribe()); err != nil || n == 0 {
			t.Fatal(n, err)
		}
		return n
	}
	n := queue.Node{Name: "w1", Slots: 1}
	come := func(kinds int) int {
		n.Classes = nil
		for i := range kinds {
			n.Classes = append(n.Classes, jobs.Class{Kind: fmt.Sprintf("test%d", i), OS: jobs.Any, Arch: jobs.Any, Feature: jobs.Any})
		}
		if err := c.Announce(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		s.setNode(t.Context(), queue.NodeChange{Name: n.Name, Node: n})
		return requests()
	}
	if few, many := come(1), come(20); many != few {
		t.Errorf("%d requests for the lines of one kind, %d for those of 20", few, many)
	}
}

// However many jobs are late at once, a sweep ends some of them and is over.
func TestSweepExpiresInParts(t *testing.T) {
	const extra = 5
	c := client(t)
	var js []jobs.Job
	for range expireBatch + extra {
		j, err := jobs.New(args{}, jobs.Options{Timeout: time.Nanosecond})
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
	for _, st := range sts {
		s.change(t.Context(), queue.Change{Record: st.Record, Revision: st.Revision})
	}
	for _, want := range []int{expireBatch, expireBatch + extra} {
		if err := s.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		failed, err := c.List(t.Context(), queue.Filter{States: []jobs.State{jobs.Failed}, Limit: len(js)})
		if err != nil || len(failed) != want {
			t.Fatalf("%d have ended, want %d; %v", len(failed), want, err)
		}
		for _, st := range failed {
			s.change(t.Context(), queue.Change{Record: st.Record, Revision: st.Revision})
		}
	}
}

// One that stands by strikes off workers that fell silent: they are many over the
// weeks, and none may count for the jobs that it admits when it leads.
func TestOneThatStandsByForgetsWorkers(t *testing.T) {
	c := client(t)
	s := New(c, nil, Config{})
	s.pool = newPool(1, s.limits.shutUntil)
	here := queue.Node{Name: "here", Slots: 2, Classes: []jobs.Class{testLine.Class}}
	if err := c.Announce(t.Context(), here); err != nil {
		t.Fatal(err)
	}
	silent := here
	silent.Name = "silent"
	for _, n := range []queue.Node{here, silent} {
		s.setNode(t.Context(), queue.NodeChange{Name: n.Name, Node: n})
	}
	s.standBy(t.Context(), time.Now())
	if _, is := s.nodes["here"]; !is || len(s.nodes) != 1 || s.pool.line(testLine).slots != here.Slots {
		t.Errorf("it knows of %v, with %d slots", s.nodes, s.pool.line(testLine).slots)
	}
}
