package scheduler

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// pause pauses jobs, each by itself.
func (m *model) pause(ids ...jobs.ID) {
	var c queue.Controls
	for _, id := range ids {
		c.Jobs = append(c.Jobs, queue.JobPause{Job: id, Since: m.now})
	}
	m.control(c)
}

func (m *model) waits(id jobs.ID, children ...jobs.ID) {
	m.told(jobs.Record{ID: id, State: jobs.Waiting, Direct: true, Children: children})
}

// A job that is paused by itself keeps what only it waits for, and nothing that is behind
// that in line.
func TestJobPauses(t *testing.T) {
	const a, b, shared, asked, other = "test-a", "test-b", "test-shared", "test-asked", "test-other"
	for _, tc := range []struct {
		name    string
		paused  []jobs.ID
		then    func(m *model)
		admits  []jobs.ID
		resumed []jobs.ID // admitted once all pauses are over
	}{
		{name: "nothing", admits: []jobs.ID{a, b, shared, asked, other}},
		{name: "who waits for them", paused: []jobs.ID{"test-p"}, admits: []jobs.ID{shared, asked, other}, resumed: []jobs.ID{a, b}},
		{name: "both that wait", paused: []jobs.ID{"test-p", "test-q"}, admits: []jobs.ID{asked, other}, resumed: []jobs.ID{a, b, shared}},
		{name: "who waits for who waits", paused: []jobs.ID{"test-top"}, admits: []jobs.ID{shared, asked, other}, resumed: []jobs.ID{a, b}},
		{name: "one of them", paused: []jobs.ID{b}, admits: []jobs.ID{a, shared, asked, other}, resumed: []jobs.ID{b}},
		{name: "one that was asked for", paused: []jobs.ID{asked}, admits: []jobs.ID{a, b, shared, other}, resumed: []jobs.ID{asked}},
		{name: "a third begins to wait", paused: []jobs.ID{"test-p"}, then: func(m *model) { m.waits("test-r", b) },
			admits: []jobs.ID{shared, asked, other, b}, resumed: []jobs.ID{a}},
		{name: "somebody asks for one", paused: []jobs.ID{"test-p"}, then: func(m *model) { m.told(jobs.Record{ID: b, State: jobs.Queued, Direct: true}) },
			admits: []jobs.ID{shared, asked, other, b}, resumed: []jobs.ID{a}},
		{name: "an unknown one", paused: []jobs.ID{"test-x"}, admits: []jobs.ID{a, b, shared, asked, other}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newModel(100)
			for _, id := range []jobs.ID{a, b, shared, asked, other} {
				m.told(jobs.Record{ID: id, State: jobs.Queued, Direct: id == asked || id == other})
			}
			m.waits("test-p", a, b, shared, asked)
			m.told(jobs.Record{ID: "test-p", State: jobs.Waiting, Children: []jobs.ID{a, b, shared, asked}})
			m.waits("test-top", "test-p")
			m.waits("test-q", shared)
			m.pause(tc.paused...)
			got := m.admit(testLine)
			if tc.then != nil {
				tc.then(m)
				m.prune()
				got = append(got, m.admit(testLine)...)
			}
			if diff := cmp.Diff(got, tc.admits); diff != "" {
				t.Errorf("admitted: %s", diff)
			}
			m.pause()
			if diff := cmp.Diff(m.admit(testLine), tc.resumed); diff != "" {
				t.Errorf("admitted later: %s", diff)
			}

			// What was admitted and has not started is taken back.
			m.pause(tc.paused...)
			var back []jobs.ID
			for _, e := range m.takeBack(nil) {
				back = append(back, e.id)
				m.setAdmitted(e, false)
				m.wait(e)
			}
			slices.Sort(tc.resumed)
			if diff := cmp.Diff(back, tc.resumed); diff != "" {
				t.Errorf("taken back: %s", diff)
			}
			if got := m.admit(testLine); got != nil {
				t.Errorf("admitted in a pause: %v", got)
			}
		})
	}
}

// Those that wait for each other, as no job should, hold up nobody.
func TestJobPauseOfACircle(t *testing.T) {
	m := newModel(100)
	m.told(jobs.Record{ID: "test-a", State: jobs.Queued})
	for _, r := range []jobs.Record{{ID: "test-p", Children: []jobs.ID{"test-q", "test-a"}}, {ID: "test-q", Children: []jobs.ID{"test-p"}},
		{ID: "test-p", Children: []jobs.ID{"test-q", "test-a"}}} {
		r.State = jobs.Waiting
		m.told(r)
	}
	m.pause("test-x")
	if got := m.admit(testLine); len(got) != 1 {
		t.Errorf("admitted %v", got)
	}
}

// Of two pauses of a job, one of which is ending, the other stays.
func TestJobPauseAgain(t *testing.T) {
	m := newModel(100)
	m.told(jobs.Record{ID: "test-a", State: jobs.Queued, Direct: true})
	ending := queue.JobPause{Job: "test-a", Since: m.now, Resumed: m.now.Add(time.Minute)}
	again := queue.JobPause{Job: "test-a", Since: m.now.Add(2 * time.Minute)}
	m.control(queue.Controls{Jobs: []queue.JobPause{ending, again}})
	if by := m.heldBy(m.jobs["test-a"]); by == nil || !by.Since.Equal(again.Since) {
		t.Errorf("held by %+v", by)
	}
	m.control(queue.Controls{Jobs: []queue.JobPause{ending}})
	if got := m.admit(testLine); got != nil {
		t.Errorf("admitted %v before it had its time back", got)
	}
}

// A scheduler that has just begun to lead admits nothing that is paused: it reads what people
// have decided, and who waits for whom, before all else. (From the edge the order in which it
// hears cannot be arranged.)
func TestHeedBeforeTheFirstAdmission(t *testing.T) {
	c := client(t)
	j, err := jobs.New(args{}, jobs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	queued, err := c.Submit(t.Context(), j)
	if err == nil {
		_, err = c.PauseJob(t.Context(), queued.ID, "", "")
	}
	if err != nil {
		t.Fatal(err)
	}
	if j, err = jobs.New(args{}, jobs.Options{}); err != nil {
		t.Fatal(err)
	}
	j.Parent = queued.ID
	child, err := c.Submit(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	validate := Validators{"test": jobs.Validator[args]()}
	s := New(c, validate, Config{})
	s.pool, s.leads = newPool(8, s.limits.shutUntil), true
	admitted := func() int {
		t.Helper()
		s.admit(t.Context())
		work, err := s.messages(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(work)
	}
	s.change(t.Context(), queue.Change{Record: child.Record, Revision: child.Revision})
	if n := admitted(); n > 0 {
		t.Errorf("%d jobs were admitted before all records were read", n)
	}
	s.change(t.Context(), queue.Change{Record: queued.Record, Revision: queued.Revision})
	s.pool.catchUp()
	if n := admitted(); n > 0 {
		t.Errorf("%d jobs were admitted that are paused", n)
	}
	if err := c.ResumeJob(t.Context(), queued.ID, ""); err != nil {
		t.Fatal(err)
	}
	heard := func() {
		t.Helper()
		controls, err := c.Controls(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.setControls(controls)
	}
	heard()
	admitted() // gives the time back
	st, err := c.Get(t.Context(), queued.ID)
	if err != nil {
		t.Fatal(err)
	}
	s.change(t.Context(), queue.Change{Record: st.Record, Revision: st.Revision})
	heard()
	if n := admitted(); n != 2 || !st.Deadline.After(queued.Deadline) {
		t.Errorf("%d jobs were admitted after the pause; due at %v, and %v before", n, st.Deadline, queued.Deadline)
	}
}

// What two pauses keep has its time back whichever of them ends first.
func TestKeptByTwo(t *testing.T) {
	const child = "test-child"
	for name, holders := range map[string][]jobs.ID{
		"both that wait":                  {"test-p", "test-q"},
		"itself and who waits":            {child, "test-p", "test-q"},
		"who waits, and who waits for it": {"test-p", "test-q", "test-top"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newModel(10)
			m.told(jobs.Record{ID: child, State: jobs.Queued})
			m.waits("test-q", child)
			m.told(jobs.Record{ID: "test-p", State: jobs.Waiting, Children: []jobs.ID{child}})
			m.waits("test-top", "test-p")
			m.pause(holders...)
			for _, id := range holders {
				resumed := queue.JobPause{Job: id, Since: m.now, Resumed: m.now}
				if !slices.ContainsFunc(m.kept([]queue.JobPause{resumed}), func(k kept) bool { return k.e.id == child }) {
					t.Errorf("the pause of %s ends, and gives %s no time", id, child)
				}
			}
			m.waits("test-other", child) // which nobody paused
			for _, k := range m.kept([]queue.JobPause{{Job: "test-q"}}) {
				if k.e.id == child {
					t.Errorf("%s is kept by one that waits for it, and another that does is not paused", child)
				}
			}
		})
	}
}

// What is held is not late, nor is anything that may be as long as not all records have been
// read; what runs is.
func TestHeldIsNotLate(t *testing.T) {
	m := newModel(10)
	m.caughtUp = false
	m.pause("test-p")
	past := time.Now().Add(-time.Hour)
	for _, r := range []jobs.Record{{ID: "test-a", State: jobs.Queued}, {ID: "test-runs", State: jobs.Running}, {ID: "test-free", State: jobs.Queued, Direct: true}} {
		r.Deadline = past
		m.told(r)
	}
	m.waits("test-p", "test-a", "test-runs")
	s := &Scheduler{pool: m.pool}
	late := func() (ids []jobs.ID) {
		for id, e := range m.jobs {
			if s.expires(e) {
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
		return ids
	}
	if diff := cmp.Diff(late(), []jobs.ID{"test-runs"}); diff != "" {
		t.Errorf("before all is read: %s", diff)
	}
	m.catchUp()
	if diff := cmp.Diff(late(), []jobs.ID{"test-free", "test-runs"}); diff != "" {
		t.Errorf("once all is read: %s", diff)
	}
}

// leader is a scheduler that leads, without its loop.
func leader(c *queue.Client) *Scheduler {
	s := New(c, Validators{"test": jobs.Validator[args]()}, Config{})
	s.pool, s.leads = newPool(8, s.limits.shutUntil), true
	return s
}

// hears has it hear of all that was decided, and do what is due then. It gives how many
// messages are in WORK.
func (s *Scheduler) hears(t *testing.T) int {
	t.Helper()
	controls, err := s.client.Controls(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.setControls(controls)
	s.admit(t.Context())
	work, err := s.messages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return len(work)
}

func submitted(t *testing.T, c *queue.Client, parent jobs.ID) queue.Status {
	t.Helper()
	j, err := jobs.New(args{}, jobs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	j.Parent = parent
	st, err := c.Submit(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// A pause that comes while a scheduler reads takes back what that has admitted, and one of
// whose children a record is gone ends all the same.
func TestPauseWhileRecordsAreRead(t *testing.T) {
	c := client(t)
	parent := submitted(t, c, "")
	child := submitted(t, c, parent.ID)
	s := leader(c)
	s.change(t.Context(), queue.Change{Record: child.Record, Revision: child.Revision})
	if n := s.hears(t); n != 1 {
		t.Fatalf("%d jobs were admitted", n)
	}
	if _, err := c.PauseJob(t.Context(), parent.ID, "", ""); err != nil {
		t.Fatal(err)
	}
	s.hears(t)
	gone := child.Record
	gone.ID = "test-gone"
	for _, e := range []jobs.Edge{jobs.Claim{Worker: "w1", At: time.Now()}, jobs.Wait{Children: []jobs.ID{child.ID, gone.ID}, At: time.Now()}} {
		var err error
		if parent, err = c.Apply(t.Context(), parent, e); err != nil {
			t.Fatal(err)
		}
	}
	s.change(t.Context(), queue.Change{Record: gone, Revision: child.Revision})
	s.change(t.Context(), queue.Change{Record: parent.Record, Revision: parent.Revision})
	s.admit(t.Context())
	s.change(t.Context(), queue.Change{Last: true})
	s.admit(t.Context())
	if work, err := s.messages(t.Context()); err != nil || len(work) > 0 {
		t.Errorf("%d jobs are admitted that are paused, %v", len(work), err)
	}
	if err := c.ResumeJob(t.Context(), parent.ID, ""); err != nil {
		t.Fatal(err)
	}
	s.hears(t)
	if controls, err := c.Controls(t.Context()); err != nil || len(controls.Jobs) > 0 {
		t.Errorf("what is paused still: %+v, %v", controls.Jobs, err)
	}
}

// A paused job that its worker hands back does not begin at another.
func TestHandedBackInAPause(t *testing.T) {
	c := client(t)
	st := submitted(t, c, "")
	s := leader(c)
	s.pool.catchUp()
	then := func(e jobs.Edge) {
		t.Helper()
		if e != nil {
			var err error
			if st, err = c.Apply(t.Context(), st, e); err != nil {
				t.Fatal(err)
			}
		}
		s.change(t.Context(), queue.Change{Record: st.Record, Revision: st.Revision})
	}
	then(nil)
	s.hears(t)
	then(jobs.Claim{Worker: "w1", Message: 1, At: time.Now()})
	if _, err := c.PauseJob(t.Context(), st.ID, "", ""); err != nil {
		t.Fatal(err)
	}
	if n := s.hears(t); n != 1 {
		t.Fatalf("%d messages, and one job runs", n)
	}
	then(jobs.HandBack{Claim: st.Revision, At: time.Now()})
	s.admit(t.Context())
	if work, err := s.messages(t.Context()); err != nil || len(work) > 0 {
		t.Errorf("%d jobs are about to begin, %v", len(work), err)
	}
}
