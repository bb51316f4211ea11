package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// waiter is a job in one of its waits. What the pool knows of who waits for whom is
// a guess that saves asking: whether a job may go on, the records of its children say.
type waiter struct {
	e        *entry
	revision uint64
}

func (w waiter) void() bool { return w.e.revision != w.revision }

// waits reports whether a waiter is in that wait still, and has not ended.
func (p *pool) waits(w waiter) bool { return !w.void() && p.jobs[w.e.id] == w.e }

// unlinked is a waiter that was read before all records had been: its children may
// not have been heard of.
type unlinked struct {
	waiter
	children []jobs.ID
}

// await makes a job wait for children.
func (p *pool) await(e *entry, children []jobs.ID) {
	w := waiter{e, e.revision}
	if !p.caughtUp {
		p.unlinked = append(p.unlinked, unlinked{w, children})
		return
	}
	p.link(w, children)
	if e.open == 0 {
		p.ready = append(p.ready, w)
	}
}

// link makes a job wait for those of its children that the pool knows, and gives the
// others.
func (p *pool) link(w waiter, children []jobs.ID) (unknown []jobs.ID) {
	w.e.open = 0
	for _, id := range children {
		c := p.jobs[id]
		if c == nil {
			unknown = append(unknown, id)
			continue
		}
		c.parents = append(c.parents, w)
		w.e.open++
		p.unpark(c)
	}
	return unknown
}

// catchUp is called once every record has been read.
func (p *pool) catchUp() {
	if p.caughtUp {
		return
	}
	p.caughtUp = true
	for _, u := range p.unlinked {
		if p.waits(u.waiter) {
			p.await(u.e, u.children)
		}
	}
	p.unlinked = nil
}

// stranger makes a job wait for one that has not been heard of.
func (p *pool) stranger(e *entry, child jobs.ID) {
	e.open++
	p.strangers[child] = append(p.strangers[child], waiter{e, e.revision})
}

// met gives an entry those who waited for it before it was heard of.
func (p *pool) met(e *entry) {
	if len(p.strangers) > 0 {
		e.parents = append(e.parents, p.strangers[e.id]...)
		delete(p.strangers, e.id)
	}
}

// estranged has those asked for again whose children were not heard of since.
func (p *pool) estranged() {
	for id, ws := range p.strangers {
		if p.jobs[id] == nil {
			p.ready = append(p.ready, ws...)
			delete(p.strangers, id)
		}
	}
}

// ended tells those who wait for a job.
func (p *pool) ended(e *entry) {
	for _, w := range e.parents {
		if w.void() {
			continue
		}
		if w.e.open--; w.e.open == 0 {
			p.ready = append(p.ready, w)
		}
	}
	e.parents = nil
}

// waitedFor reports whether a job that has not ended waits for this one. Those before
// it that wait no more are dropped: thousands may end one after the other.
func (p *pool) waitedFor(e *entry) bool {
	for len(e.parents) > 0 {
		if p.waits(e.parents[0]) {
			return true
		}
		e.parents = e.parents[1:]
	}
	return false
}

const (
	// resumeBatch jobs are resumed before others are admitted: 100,000 may have waited
	// for one layer.
	resumeBatch = 500
	// together is how many jobs are read and written at the same time, so that their
	// writes go out in one.
	together = 64
)

// each calls f for all of list, some at the same time, and gives what it returned.
func each[T any](list []T, atOnce int, f func(T) error) []error {
	errs := make([]error, len(list))
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, x := range list {
		g.Go(func() error { errs[i] = f(x); return nil })
	}
	g.Wait()
	return errs
}

// resume queues some of the jobs whose children have all ended. It asks their records:
// one may have been opened again. A job that cannot be resumed for a reason of its own
// is left to the next sweep.
func (s *Scheduler) resume(ctx context.Context) error {
	batch := s.pool.ready[:min(len(s.pool.ready), resumeBatch)]
	type asked struct {
		waiter
		open []jobs.ID // of its children
	}
	var ask []*asked
	for _, w := range batch {
		if s.pool.waits(w) {
			ask = append(ask, &asked{waiter: w})
		}
	}
	errs := each(ask, together, func(a *asked) (err error) { a.open, err = s.resumeJob(ctx, a.e); return err })
	for i, a := range ask {
		if err := s.fault(a.e.subject(), errs[i]); err != nil {
			return err
		}
		if len(a.open) == 0 {
			continue
		}
		for _, id := range s.pool.link(a.waiter, a.open) {
			s.pool.stranger(a.e, id)
		}
	}
	s.pool.ready = s.pool.ready[len(batch):]
	return nil
}

// resumeJob queues a job, or gives those of its children that have not ended.
func (s *Scheduler) resumeJob(ctx context.Context, e *entry) (open []jobs.ID, _ error) {
	st, err := s.client.GetAt(ctx, e.id, e.revision)
	if err != nil || st.State != jobs.Waiting || st.Revision > e.revision {
		return nil, err // the change is on its way
	}
	children, err := s.client.States(ctx, st.Children, s.pool.heard.id, s.pool.heard.revision)
	if err != nil {
		return nil, err
	}
	for id, state := range children {
		if !state.Ended() {
			open = append(open, id)
		}
	}
	if len(open) > 0 {
		return open, nil
	}
	return nil, s.apply(ctx, st, jobs.Resume{At: time.Now().UTC()})
}

// raise has the children of an urgent job that waits made as urgent as it is.
func (s *Scheduler) raise(r jobs.Record) {
	if r.State != jobs.Waiting || r.Priority != jobs.Interactive {
		return
	}
	for _, id := range r.Children {
		if c := s.pool.jobs[id]; c != nil {
			s.pool.calm = append(s.pool.calm, c)
		}
	}
}

// mayRaise reports whether a job can be made urgent: a running one is its worker's.
func (p *pool) mayRaise(e *entry) bool {
	return p.jobs[e.id] == e && e.line.Priority != jobs.Interactive && e.state != running
}

// sweepCalm finds the jobs that an urgent one waits for and that are not urgent: a
// scheduler may have died before it made them so, or the server have been away.
func (p *pool) sweepCalm() {
	p.calm = nil
	for _, e := range p.jobs {
		if p.mayRaise(e) && slices.ContainsFunc(e.parents, func(w waiter) bool { return w.e.line.Priority == jobs.Interactive && p.waits(w) }) {
			p.calm = append(p.calm, e)
		}
	}
}

// raiseBatch jobs are made urgent before others are admitted: one may wait for thousands.
const raiseBatch = 250

// raiseCalm makes some jobs urgent. One that it cannot comes later, but it comes.
func (s *Scheduler) raiseCalm(ctx context.Context) {
	batch := s.pool.calm[:min(len(s.pool.calm), raiseBatch)]
	s.pool.calm = s.pool.calm[len(batch):]
	each(batch, together, func(e *entry) error {
		if !s.pool.mayRaise(e) {
			return nil
		}
		err := s.join(ctx, e.id, jobs.Join{Priority: jobs.Interactive, At: time.Now().UTC()})
		if err != nil {
			s.log.Warn("job not made urgent", "id", e.id, "error", err) // the sweep tries again
		}
		return err
	})
}

func (s *Scheduler) join(ctx context.Context, id jobs.ID, e jobs.Join) error {
	st, err := s.client.Get(ctx, id)
	if err != nil {
		return err
	}
	return s.apply(ctx, st, e)
}

// idle is a child that nobody seems to need any more.
type idle struct {
	e      *entry
	reason string
}

// release has the children of a job that ended cancelled which nobody needs any more.
func (s *Scheduler) release(r jobs.Record) {
	reason := fmt.Sprintf("job %s, which waited for it, is %s, and nobody else does", r.ID, r.State)
	for _, id := range r.Children {
		if c := s.pool.jobs[id]; c != nil && s.pool.isIdle(c) {
			s.pool.drop(c, reason)
		}
	}
}

// drop puts a job on the list of those that are cancelled next, once: a long list is
// swept again and again before its end.
func (p *pool) drop(e *entry, reason string) {
	if !e.dropped {
		e.dropped = true
		p.idle = append(p.idle, idle{e, reason})
	}
}

// undrop takes the first n off the list.
func (p *pool) undrop(n int) {
	for _, i := range p.idle[:n] {
		i.e.dropped = false
	}
	if p.idle = p.idle[n:]; len(p.idle) == 0 {
		p.idle = nil
	}
}

// isIdle reports whether nobody needs a job.
func (p *pool) isIdle(e *entry) bool { return p.jobs[e.id] == e && !e.direct && !p.waitedFor(e) }

// cancelBatch jobs are cancelled before anything else is looked at: 100,000 may have
// been needed by one alone.
const cancelBatch = 250

// cancelIdle cancels some of the children that nobody needs. It is an error if the server
// is away.
func (s *Scheduler) cancelIdle(ctx context.Context) error {
	batch := s.pool.idle[:min(len(s.pool.idle), cancelBatch)]
	list := slices.DeleteFunc(slices.Clone(batch), func(i idle) bool { return !s.pool.isIdle(i.e) })
	errs := each(list, cancelBatch, func(i idle) error { return s.cancel(ctx, i.e, i.reason) })
	for i, err := range errs {
		err = s.fault(list[i].e.subject(), err)
		if err != nil && !s.client.Connected() {
			return err
		}
		if err != nil { // one that cannot be cancelled is in nobody's way
			s.log.Warn("job that nobody waits for not cancelled", "id", list[i].e.id, "error", err) // a sweep tries again
		}
	}
	s.pool.undrop(len(batch))
	return nil
}

// cancel cancels a job that nobody asked for directly, whatever it does meanwhile. That
// somebody did may be in the job and not in its record, so one that lags is not enough.
func (s *Scheduler) cancel(ctx context.Context, e *entry, reason string) error {
	for {
		found, err := s.client.GetAll(ctx, []jobs.ID{e.id}, s.pool.heard.id, s.pool.heard.revision)
		if err != nil {
			return err
		}
		st, ok := found[e.id]
		if !ok {
			return fmt.Errorf("job %s: %w", e.id, errdefs.ErrNotFound)
		}
		if st.Asked() {
			return nil
		}
		cancelled, err := s.client.Apply(ctx, st, jobs.Cancel{Reason: reason, At: time.Now().UTC()})
		switch _, ended := errors.AsType[*jobs.EdgeError](err); {
		case ended:
			return nil
		case err == nil && st.State == jobs.Running:
			return s.reopen(ctx, cancelled)
		case !errdefs.IsConflict(err):
			return err
		}
	}
}

// reopen opens a job again that somebody asked for between the look at it and its
// cancellation: its record, which ran, could not tell.
func (s *Scheduler) reopen(ctx context.Context, cancelled queue.Status) error {
	st, err := s.client.GetAt(ctx, cancelled.ID, cancelled.Revision)
	if err != nil || st.Revision != cancelled.Revision || !st.Asked() {
		return err
	}
	_, err = s.client.Submit(ctx, st.Job)
	return err
}

// sweepOrphan has a child cancelled that nobody has waited for since the last sweep: its
// parent ended under a scheduler that did not live to see it. (One that is about to
// wait has submitted its children a moment ago, and submits them again if they are
// cancelled meanwhile.)
func (s *Scheduler) sweepOrphan(e *entry) {
	was := e.orphan
	e.orphan = s.pool.caughtUp && s.pool.isIdle(e)
	if was && e.orphan {
		s.pool.drop(e, "nobody waits for it any more")
	}
}

// subject is where the job's message lies.
func (e *entry) subject() string { return e.line.Subject(e.id) }
