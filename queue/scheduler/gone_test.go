package scheduler

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// A job of which somebody removed the record, and one of which the job itself is gone,
// hold up nobody: others are resumed, admitted and swept.
func TestWhatIsGoneHoldsUpNobody(t *testing.T) {
	c := client(t)
	s := New(c, Validators{"test": jobs.Validator[args]()}, Config{})
	s.pool = newPool(8, s.limits.shutUntil)
	s.pool.catchUp()
	s.leads = true
	submit := func(class jobs.Class) queue.Status {
		t.Helper()
		j, err := jobs.New(args{}, jobs.Options{Class: class})
		if err != nil {
			t.Fatal(err)
		}
		st, err := c.Submit(t.Context(), j)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	told := func(r jobs.Record, revision uint64) {
		s.change(t.Context(), queue.Change{Record: r, Revision: revision})
	}
	first, later := testLine.Class, testLine.Class
	later.Feature = "zzz" // comes after it in the order of lines
	remove := func(st queue.Status, part string) {
		t.Helper()
		str, err := c.JetStream().Stream(t.Context(), queue.StreamState)
		if err != nil {
			t.Fatal(err)
		}
		m, err := str.GetLastMsgForSubject(t.Context(), "st."+st.ID.Scope()+"."+st.ID.Key()+part)
		if err != nil {
			t.Fatal(err)
		}
		if err := str.DeleteMsg(t.Context(), m.Sequence); err != nil {
			t.Fatal(err)
		}
	}
	noRecord, noSpec := submit(first), submit(first)
	waits, expired, good := noRecord.Record, noRecord.Record, submit(later)
	waits.ID, waits.State, waits.Children = "test-waits", jobs.Waiting, []jobs.ID{"test-x"}
	expired.ID, expired.Deadline = "test-expired", time.Now().Add(-time.Hour)
	remove(noRecord, ".run")
	remove(noSpec, ".spec")
	told(noRecord.Record, noRecord.Revision)
	told(noSpec.Record, noSpec.Revision)
	told(waits, noRecord.Revision)
	told(expired, noRecord.Revision)
	told(good.Record, good.Revision)
	if err := s.sweep(t.Context()); err != nil {
		t.Errorf("sweep: %v", err)
	}
	s.admit(t.Context())
	if !s.pool.jobs[good.ID].admitted {
		t.Error("a job of another line is not admitted")
	}
	if n := len(s.pool.ready); n > 0 {
		t.Errorf("%d jobs stand before those that can be resumed", n)
	}
}

// A line whose consumer the server refuses holds up no other.
func TestALineThatIsNotServed(t *testing.T) {
	c := client(t)
	s := New(c, Validators{"test": jobs.Validator[args]()}, Config{})
	s.pool = newPool(8, s.limits.shutUntil)
	s.pool.catchUp()
	s.leads = true
	str, err := c.JetStream().Stream(t.Context(), queue.StreamWork)
	if err != nil {
		t.Fatal(err)
	}
	// Somebody's own consumer: those of a work queue may not overlap.
	if _, err := str.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "foreign", FilterSubject: testLine.Subject("*"), AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	later := testLine.Class
	later.Feature = "zzz" // comes after it in the order of lines
	var ids []jobs.ID
	for _, class := range []jobs.Class{testLine.Class, later} {
		j, err := jobs.New(args{}, jobs.Options{Class: class})
		if err != nil {
			t.Fatal(err)
		}
		st, err := c.Submit(t.Context(), j)
		if err != nil {
			t.Fatal(err)
		}
		s.change(t.Context(), queue.Change{Record: st.Record, Revision: st.Revision})
		ids = append(ids, st.ID)
	}
	if wait := s.admit(t.Context()); wait > retryAdmission || s.pool.jobs[ids[0]].admitted || !s.pool.jobs[ids[1]].admitted {
		t.Errorf("admitted: %v of the line that is not served, %v of the other; next look in %v", s.pool.jobs[ids[0]].admitted, s.pool.jobs[ids[1]].admitted, wait)
	}
}
