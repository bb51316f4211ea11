package bench

import (
	"context"
	"errors"
	"time"
)

// victim is the worker whose connection is cut.
const victim = "victim"

// death cuts a worker off in the middle of a job, as a dead machine or a network
// does, and measures until another one has the job.
func (p *pool) death(ctx context.Context) (d Death, err error) {
	d.AckWait = p.cfg.AckWait
	s, err := p.scheduler(ctx, d.AckWait)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	v, err := p.worker(ctx, victim, 1, p.mux(victim))
	if err != nil {
		return d, err
	}
	defer v.stop() // its error is that it was cut off
	if err := p.submitOne(ctx, noop{Hang: true}); err != nil {
		return d, err
	}
	if err := p.collect(ctx, 1, func(arrival) {}); err != nil {
		return d, err
	}
	w, err := p.worker(ctx, "heir", 1, p.mux("heir"))
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	began := time.Now()
	v.client.Close()
	if err := p.collect(ctx, 1, func(a arrival) { d.Recovered = a.at.Sub(began) }); err != nil {
		return d, err
	}
	return d, p.untilEmpty(ctx)
}
