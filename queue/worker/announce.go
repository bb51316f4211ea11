package worker

import (
	"context"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/lithify/lithify/queue"
)

const (
	// announceWait bounds one announcement, so that an absent server delays no other.
	announceWait = 2 * time.Second
	// announceGap keeps a worker of short jobs from announcing each of them.
	announceGap = 200 * time.Millisecond
)

// announce keeps this worker on the list of workers until ctx is done, and takes
// it off.
func (w *Worker) announce(ctx context.Context) {
	tick := time.NewTicker(queue.NodeRenewal)
	defer tick.Stop()
	host, _ := os.Hostname() // for people
	for {
		n := queue.Node{Name: w.cfg.Name, Host: host, Node: w.cfg.Node, Labels: w.cfg.Labels, PID: os.Getpid(), Version: w.cfg.Version, OS: runtime.GOOS, Arch: runtime.GOARCH,
			Slots: w.cfg.Slots, Classes: w.cfg.Classes, Running: w.snapshot(), Draining: w.draining.Load(), Started: w.started}
		retry := w.tell(ctx, func(ctx context.Context) error { return w.client.Announce(ctx, n) })
		select {
		case <-ctx.Done():
			n.Running = w.snapshot()
			w.tell(context.WithoutCancel(ctx), func(ctx context.Context) error { return w.client.Withdraw(ctx, n) })
			return
		case <-w.changed:
			select {
			case <-time.After(announceGap):
			case <-ctx.Done():
			}
		case <-tick.C:
		case <-retry:
		}
	}
}

// tell makes one bounded call. If it did not work, the channel says when to try again.
func (w *Worker) tell(ctx context.Context, call func(context.Context) error) <-chan time.Time {
	ctx, cancel := context.WithTimeout(ctx, announceWait)
	defer cancel()
	if err := call(ctx); err != nil {
		w.log.Debug("worker not announced", "error", err)
		return time.After(pullRetry)
	}
	return nil
}

// touch asks for an announcement now.
func (w *Worker) touch() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *Worker) snapshot() []queue.RunningJob {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]queue.RunningJob, 0, len(w.running))
	for _, j := range w.running {
		list = append(list, j)
	}
	slices.SortFunc(list, func(a, b queue.RunningJob) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return list
}

// holds notes that the worker runs a job, until the returned function is called.
func (w *Worker) holds(st queue.Status) (release func()) {
	w.mu.Lock()
	w.running[st.ID] = queue.RunningJob{ID: st.ID, Claim: st.Revision, Since: st.Updated}
	w.mu.Unlock()
	w.touch()
	return func() {
		w.mu.Lock()
		if w.running[st.ID].Claim == st.Revision {
			delete(w.running, st.ID)
		}
		w.mu.Unlock()
		w.touch()
	}
}
