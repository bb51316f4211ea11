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
