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

// silenced counts the silence of a job's owner against the job, and no longer that
// of workers which are back: they did not die of it, and the attempt they lost was
// none.
func (r Record) silenced(e Claim) Record {
	silent := slices.DeleteFunc(slices.Clone(r.Silent), func(s Silence) bool { return slices.Contains(e.Back, s.Worker) })
	back := len(r.Silent) - len(silent)
	r.Poisoned += 1 - back
	r.Attempt -= back
	r.Silent = append(silent, Silence{r.Worker, r.Updated, e.At})
	return r
}
