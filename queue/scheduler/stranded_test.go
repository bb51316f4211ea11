package scheduler

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

func TestStranded(t *testing.T) {
	l := queue.Line{Priority: jobs.Bulk, Class: jobs.Class{Kind: "test", OS: jobs.Any, Arch: jobs.Any, Feature: jobs.Any}}
	work := map[string]uint64{l.Subject("test-1"): 1, l.Subject("test-2"): 1, "foreign": 1}
	for name, tc := range map[string]struct {
		before, after map[string]uint64
		want          bool
	}{
		"all known":             {map[string]uint64{l.Consumer(): 2}, map[string]uint64{l.Consumer(): 2}, false},
		"one is not":            {map[string]uint64{l.Consumer(): 1}, map[string]uint64{l.Consumer(): 1}, true},
		"one came meanwhile":    {map[string]uint64{l.Consumer(): 1}, map[string]uint64{l.Consumer(): 2}, false},
		"one was acked then":    {map[string]uint64{l.Consumer(): 2}, map[string]uint64{l.Consumer(): 1}, false},
		"no consumer":           {nil, nil, false},
		"a consumer since then": {nil, map[string]uint64{l.Consumer(): 0}, false},
	} {
		if got := stranded(work, tc.before, tc.after); got[l] != tc.want || len(got) > 1 {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
	}
}

// A message that its consumer neither delivers any more nor waits for is sent anew, by
// the second sweep that finds it so.
func TestSweepStranded(t *testing.T) {
	c := client(t)
	st, cons := forgotten(t, c)
	s, e := knows(c, st)
	s.pool.setAdmitted(e, true)
	sweepTwice(t, s, e)
	if m, err := cons.Next(jetstream.FetchMaxWait(10 * time.Second)); err != nil || m.Subject() != e.subject() {
		t.Errorf("got %v, %v", m, err)
	}
}

// If it is of an attempt that failed it is in the way of the next, and is removed.
func TestSweepStrandedOfEarlierAttempt(t *testing.T) {
	c := client(t)
	st, _ := forgotten(t, c)
	st, err := c.Apply(t.Context(), st, jobs.Claim{Worker: "w1", At: time.Now()})
	if err == nil {
		st, err = c.Apply(t.Context(), st, jobs.Fail{Claim: st.Revision, Failure: jobs.Failure{Class: jobs.ClassTransient}, At: time.Now()})
	}
	if err != nil {
		t.Fatal(err)
	}
	s, e := knows(c, st)
	sweepTwice(t, s, e)
	if err := c.Admit(t.Context(), []*nats.Msg{c.Admission(st)})[0]; err != nil {
		t.Errorf("the next attempt is not admitted: %v", err)
	}
}

// forgotten submits and admits a job whose message the server has forgotten.
func forgotten(t *testing.T, c *queue.Client) (queue.Status, jetstream.Consumer) {
	t.Helper()
	j, err := jobs.New(args{}, jobs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	st, err := c.Submit(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	l := queue.LineOf(st.Record)
	// One delivery only is the way to have the server forget one.
	cons, err := c.JetStream().CreateConsumer(t.Context(), queue.StreamWork, jetstream.ConsumerConfig{
		Durable: l.Consumer(), FilterSubject: l.Subject("*"), AckPolicy: jetstream.AckExplicitPolicy, AckWait: 50 * time.Millisecond, MaxDeliver: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Admit(t.Context(), []*nats.Msg{c.Admission(st)})[0]; err != nil {
		t.Fatal(err)
	}
	if _, err := cons.Next(); err != nil {
		t.Fatal(err)
	}
	for {
		info, err := cons.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.NumPending == 0 && info.NumAckPending == 0 {
			return st, cons
		}
	}
}

// knows is a scheduler that knows of one job.
func knows(c *queue.Client, st queue.Status) (*Scheduler, *entry) {
	s := New(c, nil, Config{})
	s.pool = newPool(1, s.limits.shutUntil)
	s.pool.update(queue.Change{Record: st.Record, Revision: st.Revision})
	return s, s.pool.jobs[st.ID]
}

func sweepTwice(t *testing.T, s *Scheduler, e *entry) {
	t.Helper()
	for range 2 {
		seen, err := s.look(t.Context())
		if err != nil || !seen.stranded[e.line.Line] {
			t.Fatalf("stranded %v, %v", slices.Collect(maps.Keys(seen.stranded)), err)
		}
		if err := s.sweepJob(t.Context(), e, seen); err != nil {
			t.Fatal(err)
		}
	}
}

// Only sweeps in a row count: messages that come and go make a line look as if it had
// stranded ones, and so may a worker that is off the list for a moment.
func TestSweepsInARow(t *testing.T) {
	c := client(t)
	st, _ := forgotten(t, c)
	s, e := knows(c, st)
	s.pool.setAdmitted(e, true)
	stranded, err := s.look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	calm := sighting{work: stranded.work}
	held := sighting{held: map[jobs.ID]uint64{}}
	for _, seen := range []sighting{stranded, calm, stranded} {
		if err := s.sweepJob(t.Context(), e, seen); err != nil {
			t.Fatal(err)
		}
	}
	if got := lastInWork(t, c); got != 1 {
		t.Errorf("the message was sent again, as number %d", got)
	}
	st, err = c.Apply(t.Context(), st, jobs.Claim{Worker: "w1", At: time.Now()})
	if err == nil {
		err = s.purge(t.Context(), e.subject())
	}
	if err != nil {
		t.Fatal(err)
	}
	s.pool.update(queue.Change{Record: st.Record, Revision: st.Revision})
	held.held[st.ID] = st.Revision
	for want, seen := range []sighting{held, {}, {}} {
		if err := s.sweepJob(t.Context(), e, seen); err != nil {
			t.Fatal(err)
		}
		if got := lastInWork(t, c); (got > 1) != (want == 2) {
			t.Errorf("sweep %d: the last message is number %d", want, got)
		}
	}
}

func lastInWork(t *testing.T, c *queue.Client) uint64 {
	t.Helper()
	s, err := c.JetStream().Stream(t.Context(), queue.StreamWork)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().State.LastSeq
}
