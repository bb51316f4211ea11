//go:build unix

package queue_test

import (
	"context"
	"os"
	"syscall"
	"testing"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue/scheduler"
	"github.com/lithify/lithify/queue/worker"
)

// A process that is stopped longer than AckWait wakes up with a claim that is
// no more: it must not write, ack or prolong.
func TestWorkerStoppedInMidJob(t *testing.T) {
	p := newPool(t)
	p.scheduler(scheduler.Config{AckWait: lease})
	cmd, lines := p.child()
	id := p.submit(testArgs{Name: "x"}, jobs.Options{}).ID
	p.expect(lines, "started x")
	signal(t, cmd.Process, syscall.SIGSTOP)
	p.worker(handle(func(context.Context, testArgs) (any, error) { return "second", nil }), worker.Config{Name: "w2"})
	done := p.waitState(id, jobs.Done)
	signal(t, cmd.Process, syscall.SIGCONT)
	p.expect(lines, "stopped claim lost")
	if st := p.get(id); st.Revision != done.Revision || result[string](t, st) != "second" {
		t.Errorf("got %+v", st.Record)
	}
}

func signal(t *testing.T, p *os.Process, s os.Signal) {
	t.Helper()
	if err := p.Signal(s); err != nil {
		t.Fatal(err)
	}
}
