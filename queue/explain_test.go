package queue_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// explains waits until the pool gives a reason of this code, and checks its words.
func (p *pool) explains(id jobs.ID, code queue.ReasonCode, words ...string) {
	p.t.Helper()
	var x queue.Explanation
	p.until("reason "+string(code), func() bool {
		var err error
		if x, err = p.Explain(p.t.Context(), id); err != nil {
			p.t.Fatal(err)
		}
		return slices.ContainsFunc(x.Reasons, func(r queue.Reason) bool { return r.Code == code })
	})
	i := slices.IndexFunc(x.Reasons, func(r queue.Reason) bool { return r.Code == code })
	if !containsAll(x.Reasons[i].Text, words...) {
		p.t.Errorf("%s: %q does not say %q", code, x.Reasons[i].Text, words)
	}
}

func TestExplain(t *testing.T) {
	p := newPool(t)
	if err := p.Setup(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	first := p.submit(testArgs{"first"}, jobs.Options{})
	p.explains(first.ID, queue.ReasonNoScheduler, "lithify serve")

	p.scheduler(scheduler.Config{Sweep: calm, Window: 1})
	p.explains(first.ID, queue.ReasonNoWorker, "test/any/any/any", "no worker is here")
	second, third := p.submit(testArgs{"second"}, jobs.Options{}), p.submit(testArgs{"third"}, jobs.Options{})
	p.explains(third.ID, queue.ReasonWindow, "of a window of 1", "1 of its tenant are before it")

	release := make(chan error)
	p.worker(handle(func(ctx context.Context, _ testArgs) (any, error) {
		for {
			select {
			case err := <-release:
				return "done", err
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			case <-time.After(20 * time.Millisecond):
				jobs.Alive(ctx, 1)
			}
		}
	}), worker.Config{Name: "w", Slots: 1})
	p.explains(first.ID, queue.ReasonRunning, "worker w", "attempt 1 of")
	p.explains(second.ID, queue.ReasonBusy, "all 1 slots")
	odd := p.submit(testArgs{"odd"}, jobs.Options{Class: jobs.Class{Kind: "test", OS: "plan9", Arch: jobs.Any, Feature: jobs.Any}})
	p.explains(odd.ID, queue.ReasonNoWorker, "test/plan9/any/any", "none has os=plan9; nearest is w")
	other := p.submit(pureArgs{"x"}, jobs.Options{})
	p.explains(other.ID, queue.ReasonNoWorker, "none of the 1 workers takes jobs of kind pure")

	release <- jobs.RetryAfter(time.Hour, errors.New("busy registry"))
	p.explains(first.ID, queue.ReasonRetry, "attempt 1 of", "due in", "busy registry")
	release <- nil
	p.waitState(second.ID, jobs.Done)
	p.explains(second.ID, queue.ReasonEnded, "done since")
	release <- nil
	p.waitState(third.ID, jobs.Done)
	if _, err := p.Cancel(t.Context(), odd.ID, "not needed"); err != nil {
		t.Fatal(err)
	}
	p.explains(odd.ID, queue.ReasonEnded, "cancelled", "not needed")
	if _, err := p.Explain(t.Context(), "test-nosuch"); !errdefs.IsNotFound(err) {
		t.Errorf("an unknown job: %v", err)
	}
}

func TestExplainChildren(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{Sweep: calm})
	release := make(chan struct{})
	p.worker(family(t, func(ctx context.Context, a pureArgs) (any, error) {
		defer jobs.Quiet(ctx, patience, "waiting for the test")()
		<-release
		return a.Digest, nil
	}), worker.Config{Name: "w", Slots: 1})
	st := p.submit(testArgs{"ab"}, jobs.Options{})
	p.explains(st.ID, queue.ReasonChildren, "2 of 2 jobs")
	x, err := p.Explain(t.Context(), st.ID)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, r := range x.Reasons {
		texts = append(texts, r.Text)
	}
	if all := strings.Join(texts, "\n"); len(texts) != 3 || !containsAll(all, "pure-") {
		t.Errorf("the children are not named:\n%s", all)
	}
	close(release)
	p.waitState(st.ID, jobs.Done)
}
