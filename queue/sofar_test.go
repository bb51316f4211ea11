package queue_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// What there is of a job that runs can be read at once, from its end, and is no more than
// was asked for.
func TestSoFar(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{})
	id := p.submit(testArgs{}, jobs.Options{Submitter: "alice"}).ID
	if parts, err := p.Printed(t.Context(), id, 100); err != nil || len(parts) > 0 {
		t.Fatalf("before it runs: %v, %v", parts, err)
	}
	release := make(chan struct{})
	p.worker(handle(func(ctx context.Context, _ testArgs) (any, error) {
		for i := range 10 {
			jobs.Event(ctx, "step", "n", i)
			jobs.Log(ctx, fmt.Appendf(nil, "line %d\n", i))
		}
		<-release
		return nil, nil
	}), worker.Config{Name: "w1"})
	for n, err := range p.ReadLog(t.Context(), id, 0) { // until all is there
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(string(n.Data), "line 9\n") {
			break
		}
	}
	var seen []queue.Event
	for e, err := range p.Watch(t.Context(), id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if seen = append(seen, e); e.Phrase == "step" && e.Attrs["n"] == 9.0 {
			break
		}
	}

	events := func(after uint64, limit int) []string {
		t.Helper()
		got, err := p.History(t.Context(), id, after, limit)
		if err != nil {
			t.Fatal(err)
		}
		return show(got)
	}
	all := show(seen)
	for name, diff := range map[string]string{
		"all":                 cmp.Diff(all, events(0, 100)),
		"the last":            cmp.Diff(all[len(all)-3:], events(0, 3)),
		"behind one":          cmp.Diff(all[5:], events(seen[4].Seq, 100)),
		"behind the last one": cmp.Diff([]string(nil), events(seen[len(seen)-1].Seq, 100)),
	} {
		if diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	parts, err := p.Printed(t.Context(), id, len("line 8\nline 9\n"))
	if got := texts(parts)[1]; err != nil || got != "line 8\nline 9\n" {
		t.Errorf("printed: %q, %v", got, err)
	}
	close(release)
	p.readLog(id, 0)
	if got := events(0, 100); len(got) <= len(all) {
		t.Errorf("after its end: %v", got)
	}
}
