package scheduler

import (
	"testing"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// Whatever versions of a record are skipped, a job that can be admitted is either
// admitted or waits. (From the edge it cannot be arranged that one is skipped.)
func TestSkippedVersions(t *testing.T) {
	class := jobs.Class{Kind: "test", OS: jobs.Any, Arch: jobs.Any, Feature: jobs.Any}
	for _, tc := range []struct {
		name   string
		states []jobs.State // each one revision
		take   bool         // is it due for admission?
	}{
		{"submitted", []jobs.State{jobs.Queued}, true},
		{"retry, a claim unseen, handed back", []jobs.State{jobs.Retry, jobs.Queued}, true},
		{"running, handed back", []jobs.State{jobs.Running, jobs.Queued}, false}, // keeps its message
		{"running, a retry unseen, running", []jobs.State{jobs.Running, jobs.Running}, false},
		{"retry, a claim unseen, ended", []jobs.State{jobs.Retry, jobs.Dead}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPool(1)
			for i, s := range tc.states {
				p.update(queue.Change{Revision: uint64(i + 1), Record: jobs.Record{ID: "test-x", Class: class, State: s, Generation: 1,
					NotBefore: time.Now().Add(time.Hour)}})
			}
			p.due(time.Now())
			if e := p.take(p.of(class)); (e != nil) != tc.take {
				t.Errorf("admitted %d, taken %+v, want %v", p.of(class).admitted, e, tc.take)
			}
		})
	}
}

// What a scheduler that stands by forgets is what admission would not have taken.
func TestPrune(t *testing.T) {
	class := jobs.Class{Kind: "test", OS: jobs.Any, Arch: jobs.Any, Feature: jobs.Any}
	p := newPool(8)
	for i, ch := range []struct {
		id    jobs.ID
		state jobs.State
	}{{"test-due", jobs.Queued}, {"test-ended", jobs.Queued}, {"test-ended", jobs.Done}, {"test-runs", jobs.Queued}, {"test-runs", jobs.Running},
		{"test-again", jobs.Queued}, {"test-again", jobs.Running}, {"test-again", jobs.Retry}} {
		p.update(queue.Change{Revision: uint64(i + 1), Record: jobs.Record{ID: ch.id, Class: class, State: ch.state, Generation: 1}})
	}
	p.due(time.Now())
	p.prune()
	if n := len(p.of(class).waiting); n != 2 {
		t.Errorf("%d are left, want 2: %v", n, p.of(class).waiting)
	}
	for _, want := range []jobs.ID{"test-due", "test-again"} {
		e := p.take(p.of(class))
		if e == nil || e.Record.ID != want {
			t.Fatalf("took %+v, want %s", e, want)
		}
		p.setAdmitted(e, true)
	}
}
