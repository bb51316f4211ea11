package queue_test

import (
	"context"
	"testing"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

func TestSubmitToDone(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{})
	p.worker(handle(func(_ context.Context, a testArgs) (any, error) { return "hello " + a.Name, nil }), worker.Config{Name: "w1"})
	st := p.waitState(p.submit(testArgs{Name: "rock"}, jobs.Options{Submitter: "alice"}).ID, jobs.Done)
	if got := result[string](t, st); got != "hello rock" || st.Attempt != 1 || st.Worker != "w1" || st.Claim == 0 {
		t.Errorf("got %q, %+v", got, st.Record)
	}
}
