package scheduler

import (
	"container/heap"
	"slices"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// pool is what the scheduler knows: the jobs that have not ended, and in which
// order to admit them. It does no I/O.
type pool struct {
	jobs    map[jobs.ID]*entry
	class   map[jobs.Class]*class
	timers  timers
	waiters waiters
	window  int
}

type entry struct {
	queue.Change
	admitted bool   // its message is in WORK, as far as is known
	missing  uint64 // revision at which the last sweep did not find its message
}

type class struct {
	waiting  []jobs.ID // may hold jobs that are gone by now
	admitted int
	slots    int
}

func newPool(window int) *pool {
	return &pool{jobs: map[jobs.ID]*entry{}, class: map[jobs.Class]*class{}, waiters: newWaiters(), window: window}
}

func (p *pool) of(c jobs.Class) *class {
	if p.class[c] == nil {
		p.class[c] = &class{}
	}
	return p.class[c]
}

// update takes a record's new version in and reports whether the job was admitted.
func (p *pool) update(ch queue.Change) (admitted bool) {
	id, e := ch.Record.ID, p.jobs[ch.Record.ID]
	if e == nil {
		e = &entry{}
	} else if ch.Revision <= e.Revision {
		return false
	}
	admitted = e.admitted
	known := e.Record.Generation == ch.Record.Generation // versions in between may have been skipped
	if !known {
		p.setAdmitted(e, false)
	}
	e.Change = ch
	switch st := ch.Record.State; {
	case st.Ended():
		p.setAdmitted(e, false)
		delete(p.jobs, id)
		p.waiters.ended(id)
		return admitted
	case st == jobs.Waiting: // its worker takes the message away
		p.setAdmitted(e, false)
		p.waiters.add(id, ch.Revision, p.running(ch.Record.Children))
	case st == jobs.Running:
		p.setAdmitted(e, true)
	case st == jobs.Retry: // its worker takes the message away
		p.setAdmitted(e, false)
		p.waitUntil(e, ch.Record.NotBefore)
	case !known || !e.admitted: // queued; one that was handed back keeps its message, if it had one
		p.wait(e)
	}
	p.jobs[id] = e
	return admitted
}

// running are those of ids that have not ended, as far as is known.
func (p *pool) running(ids []jobs.ID) (open []jobs.ID) {
	for _, id := range ids {
		if p.jobs[id] != nil {
			open = append(open, id)
		}
	}
	return open
}

func (p *pool) setAdmitted(e *entry, to bool) {
	if e.admitted == to {
		return
	}
	e.admitted = to
	if to {
		p.of(e.Record.Class).admitted++
	} else {
		p.of(e.Record.Class).admitted--
	}
}

func (p *pool) wait(e *entry) {
	c := p.of(e.Record.Class)
	c.waiting = append(c.waiting, e.Record.ID)
}

func (p *pool) waitUntil(e *entry, at time.Time) {
	heap.Push(&p.timers, timer{at, e.Record.ID, e.Revision})
}

// due moves jobs whose time has come to the waiting ones.
func (p *pool) due(now time.Time) {
	for at, ok := p.next(); ok && !at.After(now); at, ok = p.next() {
		t := heap.Pop(&p.timers).(timer)
		if e := p.jobs[t.id]; e != nil && e.Revision == t.revision {
			p.wait(e)
		}
	}
}

// next is when the next timer runs out, if there is one.
func (p *pool) next() (time.Time, bool) {
	if len(p.timers) == 0 {
		return time.Time{}, false
	}
	return p.timers[0].at, true
}

// windowOf is how many jobs of a class may be admitted at a time.
func (p *pool) windowOf(c *class) int { return max(p.window, perSlot*c.slots) }

// before is how many are in line before a job, or how many there are.
func (c *class) before(id jobs.ID) int {
	if i := slices.Index(c.waiting, id); i >= 0 {
		return i
	}
	return len(c.waiting)
}

// admissible reports whether a job's message belongs into WORK and is not there.
func (e *entry) admissible() bool {
	return !e.admitted && (e.Record.State == jobs.Queued || e.Record.State == jobs.Retry)
}

// take gives the next job of c that may be admitted, or nil.
func (p *pool) take(c *class) *entry {
	for len(c.waiting) > 0 && c.admitted < p.windowOf(c) {
		e := p.jobs[c.waiting[0]]
		c.waiting = c.waiting[1:]
		if e != nil && e.admissible() {
			return e
		}
	}
	return nil
}

type timer struct {
	at       time.Time
	id       jobs.ID
	revision uint64
}

// timers is a heap by time.
type timers []timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)        { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	*t = (*t)[:last]
	return x
}
