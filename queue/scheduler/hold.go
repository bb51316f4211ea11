package scheduler

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// hold sets which jobs are paused, each by itself.
func (p *pool) hold(pauses []queue.JobPause) {
	p.held = map[jobs.ID]*queue.JobPause{}
	for i, x := range pauses {
		if p.held[x.Job] == nil || x.Resumed.IsZero() { // a second one, made while the first ends, goes on
			p.held[x.Job] = &pauses[i]
		}
	}
	p.unparkAll()
}

// maxNest bounds how many jobs that wait for each other are looked at: kinds nest by three.
const maxNest = 8

// heldBy gives the pause that keeps a job: its own, or that of whoever waits for it, if all
// are paused. What somebody else needs goes on.
func (p *pool) heldBy(e *entry) *queue.JobPause { return p.heldIn(e, maxNest) }

func (p *pool) heldIn(e *entry, nest int) *queue.JobPause {
	if len(p.held) == 0 || nest <= 0 {
		return nil
	}
	if x := p.held[e.id]; x != nil {
		return x
	}
	return p.heldByWaiters(e, nest)
}

func (p *pool) heldByWaiters(e *entry, nest int) (why *queue.JobPause) {
	if e.direct {
		return nil
	}
	for _, w := range e.parents {
		if !p.waits(w) {
			continue
		}
		if why = p.heldIn(w.e, nest-1); why == nil {
			return nil
		}
	}
	return why
}

// holders are all jobs whose pauses keep one, of which heldBy tells the first.
func (p *pool) holders(e *entry) (ids []jobs.ID) { return p.holdersIn(nil, e, maxNest) }

func (p *pool) holdersIn(ids []jobs.ID, e *entry, nest int) []jobs.ID {
	if p.held[e.id] != nil && !slices.Contains(ids, e.id) {
		ids = append(ids, e.id)
	}
	if len(p.held) == 0 || p.heldByWaiters(e, nest) == nil {
		return ids
	}
	for _, w := range e.parents {
		if p.waits(w) {
			ids = p.holdersIn(ids, w.e, nest-1)
		}
	}
	return ids
}

// heldEarly is heldBy for a job that nobody waits for yet: the one that is submitting it is
// about to.
func (p *pool) heldEarly(e *entry, parent jobs.ID) bool {
	w := p.jobs[parent]
	return len(p.held) > 0 && w != nil && !e.direct && !p.waitedFor(e) && p.heldBy(w) != nil
}

// park takes a job out of its line that is held, so that it keeps none behind it.
func (p *pool) park(e *entry) bool {
	if p.heldBy(e) == nil {
		return false
	}
	p.putAside(e)
	return true
}

func (p *pool) putAside(e *entry) {
	e.turn = 0
	if !e.isParked {
		e.isParked, p.parked = true, append(p.parked, e)
	}
}

// unpark puts a job back into its line; if it is held still, it is parked again.
func (p *pool) unpark(e *entry) {
	if e.isParked {
		e.isParked = false
		if e.turn == 0 && !e.admitted {
			p.wait(e)
		}
	}
}

func (p *pool) unparkAll() {
	all := p.parked
	p.parked = nil
	for _, e := range all {
		p.unpark(e)
	}
}

// settlePauses ends the pauses of jobs that have ended, and those that somebody ended: once
// what they kept has its time back. What cannot be done now the sweep does.
func (s *Scheduler) settlePauses(ctx context.Context) {
	var over, resumed []queue.JobPause
	for _, x := range s.pool.controls.Jobs {
		ended, err := s.hasEnded(ctx, x.Job)
		switch {
		case err != nil:
			s.notEnded(ctx, x, err)
		case ended:
			over = append(over, x)
		case !x.Resumed.IsZero():
			resumed = append(resumed, x)
		}
	}
	if over = append(over, s.giveBack(ctx, resumed)...); len(over) == 0 {
		return
	}
	if err := s.client.DropPauses(ctx, over); err != nil && ctx.Err() == nil {
		s.log.Warn("pauses not ended", "pauses", len(over), "error", err)
	}
}

func (s *Scheduler) notEnded(ctx context.Context, x queue.JobPause, err error) {
	if ctx.Err() == nil {
		s.log.Warn("pause not ended", "id", x.Job, "error", err)
	}
}

func (s *Scheduler) hasEnded(ctx context.Context, id jobs.ID) (bool, error) {
	if s.pool.jobs[id] != nil {
		return false, nil
	}
	st, err := s.client.Get(ctx, id) // it may be newer than what was heard of
	if errdefs.IsNotFound(err) {
		return true, nil
	}
	return err == nil && st.State.Ended(), err
}

// kept is a job that pauses keep which somebody has ended.
type kept struct {
	e  *entry
	by []queue.JobPause
}

// kept gives what pauses keep, also if others keep it on: those may have begun later.
func (p *pool) kept(by []queue.JobPause) (list []kept) {
	if len(by) == 0 {
		return nil
	}
	for _, e := range p.jobs {
		if e.state == running {
			continue
		}
		k, holders := kept{e: e}, p.holders(e)
		for _, x := range by {
			if slices.Contains(holders, x.Job) {
				k.by = append(k.by, x)
			}
		}
		if len(k.by) > 0 {
			list = append(list, k)
		}
	}
	return list
}

func (k kept) since() time.Time {
	return slices.MinFunc(k.by, func(a, b queue.JobPause) int { return a.Since.Compare(b.Since) }).Since
}

// giveBack moves the deadlines of what pauses keep, and gives those that can end now. A job
// that cannot be read keeps none from ending.
func (s *Scheduler) giveBack(ctx context.Context, resumed []queue.JobPause) []queue.JobPause {
	list, failed := s.pool.kept(resumed), map[jobs.ID]error{}
	for i, err := range each(list, together, func(k kept) error { return s.extend(ctx, k.e, k.since(), time.Now().UTC()) }) {
		if err = s.fault(list[i].e.subject(), err); err != nil {
			for _, x := range list[i].by {
				failed[x.Job] = err
			}
		}
	}
	return slices.DeleteFunc(resumed, func(x queue.JobPause) bool {
		err := failed[x.Job]
		if err != nil {
			s.notEnded(ctx, x, err)
		}
		return err != nil
	})
}

func (s *Scheduler) extend(ctx context.Context, e *entry, since, now time.Time) error {
	for {
		st, err := s.client.GetAt(ctx, e.id, e.revision)
		if err != nil {
			return err
		}
		from := since
		if st.Record.Created.After(since) {
			from = st.Record.Created
		}
		_, err = s.client.Apply(ctx, st, jobs.Extend{Pause: since, By: max(now.Sub(from), 0), At: now})
		switch _, moot := errors.AsType[*jobs.EdgeError](err); {
		case err == nil || moot: // it has it, runs, or has ended
			return nil
		case !errdefs.IsConflict(err):
			return err
		}
	}
}
