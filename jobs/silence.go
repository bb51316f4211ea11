package jobs

import (
	"slices"
	"time"
)

// Silence is a worker that was not heard of for so long that it lost a job.
type Silence struct {
	Worker  string    `json:"worker"`
	Claimed time.Time `json:"claimed"` // by it, on its clock
	Lost    time.Time `json:"lost"`    // to another, on that one's clock
}

// Doubted reports whether the job is Dead at its next claim, unless a worker that fell
// silent with it is heard of until then.
func (r Record) Doubted() bool { return r.State == Retry && r.lastAttempt() }

// silenced counts the silence of a job's owner against the job.
func (r Record) silenced(e Claim) Record {
	lost := Silence{r.Worker, r.Updated, e.At}
	r = r.pardoned(e.Back)
	r.Poisoned++
	r.Silent = append(r.Silent, lost)
	return r
}

// pardoned counts the silence of workers that are back no longer against the job: they
// did not die of it, and the attempt they lost was none.
func (r Record) pardoned(back []string) Record {
	silent := slices.DeleteFunc(slices.Clone(r.Silent), func(s Silence) bool { return slices.Contains(back, s.Worker) })
	n := len(r.Silent) - len(silent)
	r.Poisoned -= n
	r.Attempt -= n
	r.Silent = silent
	return r
}
