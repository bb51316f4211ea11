package scheduler

import (
	"context"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// waiters knows which jobs wait for which others. It is a guess that saves asking:
// whether a job may go on, the records of its children say.
type waiters struct {
	parents map[jobs.ID][]waiter // by child
	open    map[waiter]int       // children that have not ended
	ready   []waiter             // those with none
}

// waiter is a job in one of its waits.
type waiter struct {
	id       jobs.ID
	revision uint64
}

func newWaiters() waiters {
	return waiters{parents: map[jobs.ID][]waiter{}, open: map[waiter]int{}}
}

// add makes a job wait for children that have not ended.
func (w *waiters) add(id jobs.ID, revision uint64, children []jobs.ID) {
	p := waiter{id, revision}
	if len(children) == 0 {
		w.ready = append(w.ready, p)
		return
	}
	w.open[p] += len(children)
	for _, c := range children {
		w.parents[c] = append(w.parents[c], p)
	}
}

// ended tells those who wait for a job.
func (w *waiters) ended(child jobs.ID) {
	for _, p := range w.parents[child] {
		if w.open[p]--; w.open[p] <= 0 {
			delete(w.open, p)
			w.ready = append(w.ready, p)
		}
	}
	delete(w.parents, child)
}

// resume queues the jobs whose children have all ended. It asks their records:
// after a start a child may not have been heard of yet, and one may have been
// opened again. A job that cannot be resumed for a reason of its own is left to the
// next sweep.
func (s *Scheduler) resume(ctx context.Context) error {
	w := &s.pool.waiters
	for len(w.ready) > 0 {
		next := w.ready[0]
		if e := s.pool.jobs[next.id]; e != nil && e.Revision == next.revision {
			err := s.resumeJob(ctx, e)
			if err = s.fault(queue.WorkSubject(e.Record.Class, e.Record.ID), err); err != nil {
				return err
			}
		}
		w.ready = w.ready[1:]
	}
	return nil
}

func (s *Scheduler) resumeJob(ctx context.Context, e *entry) error {
	children, err := s.client.GetAll(ctx, e.Record.Children)
	if err != nil {
		return err
	}
	var open []jobs.ID
	for id, st := range children {
		if !st.State.Ended() {
			open = append(open, id)
		}
	}
	if len(open) > 0 {
		s.pool.waiters.add(e.Record.ID, e.Revision, open)
		return nil
	}
	return s.apply(ctx, queue.Status{Record: e.Record, Revision: e.Revision}, jobs.Resume{At: time.Now().UTC()})
}
