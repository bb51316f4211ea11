package scheduler

import (
	"context"
	"errors"
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

func (p *pool) heldIn(e *entry, nest int) (why *queue.JobPause) {
	if len(p.held) == 0 || nest == 0 {
		return nil
	}
	if x := p.held[e.id]; x != nil || e.direct {
		return x
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
	var over []queue.JobPause
	for _, x := range s.pool.controls.Jobs {
		is, err := s.isOver(ctx, x)
		if is && err == nil {
			over = append(over, x)
		} else if err != nil && ctx.Err() == nil {
			s.log.Warn("pause not ended", "id", x.Job, "error", err)
		}
	}
	if len(over) == 0 {
		return
	}
	if err := s.client.DropPauses(ctx, over); err != nil && ctx.Err() == nil {
		s.log.Warn("pauses not ended", "pauses", len(over), "error", err)
	}
}

// isOver reports whether nothing needs a pause any more.
func (s *Scheduler) isOver(ctx context.Context, x queue.JobPause) (bool, error) {
	if s.pool.jobs[x.Job] == nil {
		st, err := s.client.Get(ctx, x.Job) // it may be newer than what was heard of
		if errdefs.IsNotFound(err) {
			return true, nil
		}
		return err == nil && st.State.Ended(), err
	}
	if x.Resumed.IsZero() {
		return false, nil
	}
	return true, s.giveBack(ctx, x)
}

// giveBack moves the deadlines of what a pause keeps.
func (s *Scheduler) giveBack(ctx context.Context, x queue.JobPause) error {
	var kept []*entry
	for _, e := range s.pool.jobs {
		if by := s.pool.heldBy(e); by != nil && by.Job == x.Job && e.state != running {
			kept = append(kept, e)
		}
	}
	return errors.Join(each(kept, together, func(e *entry) error { return s.extend(ctx, e, x.Since, time.Now().UTC()) })...)
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
