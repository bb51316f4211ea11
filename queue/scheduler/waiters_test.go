package scheduler

import (
	"fmt"
	"testing"

	"github.com/lithify/lithify/jobs"
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
