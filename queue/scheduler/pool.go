package scheduler

import (
	"container/heap"
	"math"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// pool is what the scheduler knows: the jobs that have not ended, and in which
// order to admit them. It does no I/O.
type pool struct {
	jobs     map[jobs.ID]*entry
	lines    map[queue.Line]*line
	order    []*line // the same, urgent ones first
	tenants  map[string]*tenant
	hosts    map[string]*host
	hostSets map[string]*hostSet
	controls queue.Controls
	held     map[jobs.ID]*queue.JobPause                                 // by the job that is paused
	parked   []*entry                                                    // jobs that are held, and so in no line; and some that are no more
	shut     func(host string, now time.Time) (until time.Time, is bool) // whether a registry wants no requests
	opens    time.Time                                                   // when to look again at a job that waits for one
	timers   timers

	caughtUp  bool // every record has been read once
	unlinked  []unlinked
	strangers map[jobs.ID][]waiter // by child that has not been heard of
	ready     []waiter             // jobs whose children have all ended
	idle      []idle               // children that nobody needs any more
	calm      []*entry             // children of urgent jobs that are to be urgent, too

	window int
	turns  uint64 // places given so far
	round  uint64 // of prune
	heard  heard
}

// heard is the last change that came: what is read must not be older.
type heard struct {
	id       jobs.ID
	revision uint64
}

// entry is a job that has not ended. There may be a million: what is needed seldom
// is read from the record.
type entry struct {
	id       jobs.ID
	revision uint64
	missing  uint64 // revision at which the last sweep did not find its message, or not where it is delivered from, nor who has it
	deadline int64  // unix nanoseconds
	turn     uint64 // its place among those that wait to be admitted; 0: it does not
	line     *line
	tenant   *tenant
	hosts    *hostSet // nil: none
	parents  []waiter // that wait for it
	open     int32    // children that have not ended; one that was asked for twice counts them down twice
	state    state
	admitted bool // its message is in WORK, as far as is known
	direct   bool // somebody asked for it, and not only jobs that wait for it
	orphan   bool // at the last sweep nobody waited for it
	dropped  bool // it is in pool.idle
	isParked bool // it is in pool.parked
	gen      int32
}

// state is a jobs.State in a byte.
type state uint8

const (
	queued state = iota
	running
	retry
	waiting
)

var states = map[jobs.State]state{jobs.Queued: queued, jobs.Running: running, jobs.Retry: retry, jobs.Waiting: waiting}

func newPool(window int, shut func(string, time.Time) (time.Time, bool)) *pool {
	return &pool{shut: shut, jobs: map[jobs.ID]*entry{}, lines: map[queue.Line]*line{}, tenants: map[string]*tenant{}, hosts: map[string]*host{},
		hostSets: map[string]*hostSet{}, strangers: map[jobs.ID][]waiter{}, window: window}
}

// moved is what a new version of a record leaves to do.
type moved struct {
	admitted bool        // the job was admitted,
	from     *queue.Line // in this line, which it has left
}

// update takes a record's new version in.
func (p *pool) update(ch queue.Change) (m moved) {
	if ch.Revision > p.heard.revision {
		p.heard = heard{ch.Record.ID, ch.Revision}
	}
	r, e := ch.Record, p.jobs[ch.Record.ID]
	switch {
	case e != nil && ch.Revision <= e.revision:
		return moved{}
	case r.State.Ended():
		if e == nil {
			e = &entry{id: r.ID}
			p.met(e)
		}
		m.admitted = e.admitted
		p.end(e)
		return m
	case e == nil:
		e = &entry{id: r.ID, gen: -1}
		p.jobs[r.ID] = e
		p.met(e)
	}
	m.admitted = e.admitted
	known := e.gen == int32(r.Generation) // versions in between may have been skipped
	if l := queue.LineOf(r); e.line == nil || e.line.Line != l {
		if e.admitted {
			m.from = &e.line.Line
			p.setAdmitted(e, false)
		}
		e.line = p.line(l)
	}
	if !known && e.tenant != nil {
		p.setAdmitted(e, false)
	}
	if e.tenant == nil || !known {
		e.tenant, e.hosts = p.tenant(r.Tenant), p.hostSet(r.Hosts)
	}
	e.revision, e.gen, e.direct, e.deadline = ch.Revision, int32(r.Generation), r.Direct, nanos(r.Deadline)
	p.enter(e, r, known && m.from == nil)
	return m
}

// enter puts a job where its state belongs.
func (p *pool) enter(e *entry, r jobs.Record, known bool) {
	was, turn := e.state, e.turn
	e.state, e.turn, e.isParked = states[r.State], 0, false
	switch {
	case known && was == queued && e.state == queued && turn > 0:
		e.turn = turn // somebody else asks for it, too
	case e.state == waiting: // its worker takes the message away
		p.setAdmitted(e, false)
		p.await(e, r.Children)
	case e.state == running:
		p.setAdmitted(e, true)
	case !r.NotBefore.IsZero(): // a retry's worker takes the message away
		p.setAdmitted(e, false)
		p.waitUntil(e, r.NotBefore)
	case e.state == retry:
		p.setAdmitted(e, false)
		p.wait(e)
	case !known || !e.admitted: // queued; one that was handed back keeps its message, if it had one
		p.wait(e)
	}
}

// end forgets a job, and tells those who wait for it.
func (p *pool) end(e *entry) {
	p.setAdmitted(e, false)
	e.turn, e.isParked = 0, false
	delete(p.jobs, e.id)
	p.ended(e)
}

func (p *pool) setAdmitted(e *entry, to bool) {
	if e.admitted == to {
		return
	}
	e.admitted = to
	n := -1
	if to {
		n, e.turn = 1, 0
	}
	e.line.admitted += n
	e.tenant.inFlight += n
	for _, h := range e.hosts.all() {
		h.inFlight += n
	}
}

// wait puts a job at the end of its line.
func (p *pool) wait(e *entry) {
	p.turns++
	e.turn = p.turns
	e.line.push(e)
}

func (p *pool) waitUntil(e *entry, at time.Time) {
	heap.Push(&p.timers, timer{nanos(at), e, e.revision})
}

// nanos is a time in unix nanoseconds, which end in 2262: what is later is that.
func nanos(t time.Time) int64 {
	if t.After(time.Unix(0, math.MaxInt64)) {
		return math.MaxInt64
	}
	return t.UnixNano()
}

// due moves jobs whose time has come to the waiting ones.
func (p *pool) due(now time.Time) {
	for len(p.timers) > 0 && p.timers[0].at <= now.UnixNano() {
		t := heap.Pop(&p.timers).(timer)
		if p.jobs[t.e.id] == t.e && t.e.revision == t.revision && !t.e.admitted && t.e.turn == 0 {
			p.wait(t.e)
		}
	}
}

// next is when the next timer runs out or a registry opens, if there is either.
func (p *pool) next() (at time.Time, ok bool) {
	if len(p.timers) > 0 {
		at = time.Unix(0, p.timers[0].at)
	}
	if !p.opens.IsZero() && (at.IsZero() || p.opens.Before(at)) {
		at = p.opens
	}
	return at, !at.IsZero()
}

// timer is when to look at a job.
type timer struct {
	at       int64 // unix nanoseconds
	e        *entry
	revision uint64
}

// timers is a heap by time.
type timers []timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at < t[j].at }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)        { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	(*t)[last] = timer{}
	*t = (*t)[:last]
	return x
}
