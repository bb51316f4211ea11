package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

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
