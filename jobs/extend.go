package jobs

import "time"

// Extend gives a job that was kept from running the time back that it lost by that.
type Extend struct {
	Pause time.Time // when it began: one gives time once
	By    time.Duration
	At    time.Time
}

func (e Extend) next(r Record) (Record, bool) {
	ok := (r.State == Queued || r.State == Retry || r.State == Waiting) && e.By >= 0 && !r.Extended.Equal(e.Pause)
	if r.Extended = e.Pause; !r.Deadline.IsZero() {
		r.Deadline = r.Deadline.Add(e.By)
	}
	return r, ok
}

func (e Extend) at() time.Time { return e.At }
