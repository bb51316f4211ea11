package bench

import (
	"context"
	"errors"
	"time"
)

// restart stops everything, with some jobs still queued beside all that are done,
// and measures from the start of the server on.
func (p *pool) restart(ctx context.Context) (r Restart, err error) {
	if err := p.insert(ctx, queued(p.cfg.Jobs)); err != nil {
		return r, err
	}
	r.Queued, r.Records = queued(p.cfg.Jobs), queued(p.cfg.Jobs)+p.cfg.Jobs
	if p.srv != nil {
		if err := p.stop(); err != nil {
			return r, err
		}
	}
	began := time.Now()
	if p.srv != nil {
		if err := p.start(ctx); err != nil {
			return r, err
		}
	}
	r.Answers = time.Since(began)
	s, err := p.scheduler(ctx, 0)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	r.Read = time.Since(began)
	w, err := p.worker(ctx, "restarted", p.cfg.Slots, p.mux("restarted"))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	first := true
	if err := p.collect(ctx, r.Queued, func(a arrival) {
		if first {
			r.Dispatched, first = a.at.Sub(began), false
		}
	}); err != nil {
		return r, err
	}
	return r, p.untilEmpty(ctx)
}

// queued is how many jobs wait while the pool restarts: a tenth.
func queued(n int) int { return max(n/10, 1) }
