package bench

import (
	"context"
	"errors"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue/scheduler"
)

// noop is the args of a job that does nothing.
type noop struct {
	N    int  `json:"n"`              // which one
	Hang bool `json:"hang,omitempty"` // until its worker is stopped
}

func (noop) Kind() string { return "bench" }

func (a noop) Validate() error {
	if a.N < 0 {
		return errors.New("n is negative")
	}
	return nil
}

var validators = scheduler.Validators{noop{}.Kind(): jobs.Validator[noop]()}

// arrival is the start of a handler.
type arrival struct {
	noop
	at     time.Time
	worker string
}

// arrivalsBuffer keeps a handler from waiting for the one who counts.
const arrivalsBuffer = 4096

// mux handles noop by saying that it came.
func (p *pool) mux(worker string) *jobs.Mux {
	var m jobs.Mux
	jobs.Handle(&m, func(ctx context.Context, a noop) (any, error) {
		select {
		case p.arrivals <- arrival{a, time.Now(), worker}:
		case <-ctx.Done():
		}
		if a.Hang && worker == victim {
			<-ctx.Done()
		}
		return nil, ctx.Err()
	})
	return &m
}

// newJob is a job of its own ID.
func newJob(a noop) (jobs.Job, error) { return jobs.New(a, jobs.Options{Submitter: "bench"}) }
