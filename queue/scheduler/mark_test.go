package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// A mark is true: each open job is named in it or at or above it; and names no more
// than it may.
func TestMarkIsTrue(t *testing.T) {
	const limit = 5
	rnd := rand.New(rand.NewPCG(1, 2))
	p, revision := newPool(1, nil), uint64(0)
	r := jobs.Record{Class: jobs.Class{Kind: "test", OS: jobs.Any, Arch: jobs.Any, Feature: jobs.Any}, Priority: jobs.Bulk, Tenant: "default", Generation: 1}
	for range 2000 {
		revision += 1 + rnd.Uint64N(3)
		r.ID = jobs.ID(fmt.Sprintf("test-%d", rnd.IntN(12)))
		r.State = []jobs.State{jobs.Queued, jobs.Running, jobs.Done, jobs.Failed}[rnd.IntN(4)]
		p.update(queue.Change{Record: r, Revision: revision})
		m := p.mark(limit)
		if len(m.Open) > limit || m.Revision > revision+1 || len(p.jobs) <= limit && m.Revision != revision+1 {
			t.Fatalf("revision %d, %d jobs: %+v", revision, len(p.jobs), m)
		}
		for id, e := range p.jobs {
			if (e.revision < m.Revision) != slices.Contains(m.Open, id) {
				t.Fatalf("job %s at %d: %+v", id, e.revision, m)
			}
		}
	}
}

// One that stands by leaves letters to the leader, and no mark that passes over a dead
// job to which the leader could write none.
func TestMarkOfOneThatStandsBy(t *testing.T) {
	c := client(t)
	j, err := jobs.New(args{}, jobs.Options{MaxAttempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	st, err := c.Submit(t.Context(), j)
	for _, e := range []jobs.Edge{jobs.Claim{Worker: "w1", At: time.Now()}, jobs.Fail{At: time.Now()}} {
		if err == nil {
			st, err = c.Apply(t.Context(), st, e)
		}
	}
	if err != nil || st.State != jobs.Dead {
		t.Fatal(st.State, err)
	}
	s := New(c, nil, Config{})
	s.pool = newPool(1, s.limits.shutUntil)
	s.change(t.Context(), queue.Change{Record: st.Record, Revision: st.Revision, Last: true})
	mark := func() queue.Mark {
		s.standBy(t.Context(), time.Now().Add(2*unburiedFor))
		if err := s.setMark(t.Context()); err != nil {
			t.Fatal(err)
		}
		m, err := c.GetMark(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if m := mark(); m.Revision != 0 {
		t.Errorf("mark %+v, and a dead job without a letter", m)
	}
	if err := c.Bury(t.Context(), st.Record); err != nil {
		t.Fatal(err)
	}
	if m := mark(); m.Revision != st.Revision+1 {
		t.Errorf("mark %+v, the letter of %d is written", m, st.Revision)
	}
}
