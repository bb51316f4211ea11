package scheduler

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// line holds the jobs of one priority and class that wait to be admitted. Tenants
// take turns in it by deficit round robin: at each turn one may have as many jobs
// admitted as its weight says.
type line struct {
	queue.Line
	waiting  []*share           // of tenants that have jobs in it; the first has its turn
	shares   map[*tenant]*share // the same
	credit   int                // of the first one: jobs left in its turn
	admitted int
	slots    int
	used     uint64 // the last round of prune that found a job of it; so for tenants and hosts
}

// share is what a tenant has waiting in a line: first come first served, but a job
// whose registries are busy keeps none behind it that needs others.
type share struct {
	tenant *tenant
	queues []*fifo
	fifos  map[*hostSet]*fifo // the same
}

// fifo are waiting jobs that burden the same registries.
type fifo struct {
	hosts *hostSet
	jobs  []place
}

// place is a job in line. It is void once the job has another turn, or none.
type place struct {
	e    *entry
	turn uint64
}

func (l place) void() bool { return l.e.turn != l.turn }

// tenant is somebody who shares the pool with others.
type tenant struct {
	name     string
	weight   int // at least 1
	limit    int // jobs in flight; 0: no limit
	inFlight int
	used     uint64
}

// host is a registry.
type host struct {
	name     string
	limit    int // jobs in flight; 0: no limit
	inFlight int
	used     uint64
}

// hostSet are the registries that a job burdens. Jobs that burden the same share it.
type hostSet struct {
	hosts []*host
	used  uint64
}

func (h *hostSet) all() []*host {
	if h == nil {
		return nil
	}
	return h.hosts
}

func (p *pool) line(l queue.Line) *line {
	if p.lines[l] == nil {
		p.lines[l] = &line{Line: l, shares: map[*tenant]*share{}}
		i, _ := slices.BinarySearchFunc(p.order, p.lines[l], urgentFirst)
		p.order = slices.Insert(p.order, i, p.lines[l])
	}
	return p.lines[l]
}

func urgentFirst(a, b *line) int {
	return cmp.Or(cmp.Compare(slices.Index(jobs.Priorities, a.Priority), slices.Index(jobs.Priorities, b.Priority)),
		cmp.Compare(a.Consumer(), b.Consumer()))
}

func (p *pool) tenant(name string) *tenant {
	if p.tenants[name] == nil {
		c := p.controls.Tenants[name]
		p.tenants[name] = &tenant{name: name, weight: max(c.Weight, 1), limit: c.MaxInFlight}
	}
	return p.tenants[name]
}

func (p *pool) host(name string) *host {
	if p.hosts[name] == nil {
		p.hosts[name] = &host{name: name, limit: p.controls.Registries[name].Concurrency}
	}
	return p.hosts[name]
}

func (p *pool) hostSet(names []string) *hostSet {
	if len(names) == 0 {
		return nil
	}
	key := strings.Join(names, " ")
	if p.hostSets[key] == nil {
		h := &hostSet{}
		for _, name := range names {
			h.hosts = append(h.hosts, p.host(name))
		}
		p.hostSets[key] = h
	}
	return p.hostSets[key]
}

func (l *line) push(e *entry) {
	s := l.shares[e.tenant]
	if s == nil {
		s = &share{tenant: e.tenant, fifos: map[*hostSet]*fifo{}}
		l.shares[e.tenant], l.waiting = s, append(l.waiting, s)
	}
	q := s.fifos[e.hosts]
	if q == nil {
		q = &fifo{hosts: e.hosts}
		s.fifos[e.hosts], s.queues = q, append(s.queues, q)
	}
	q.jobs = append(q.jobs, place{e, e.turn})
}

// windowOf is how many jobs of a line may be admitted at a time.
func (p *pool) windowOf(l *line) int { return max(p.window, perSlot*l.slots) }

// take gives the next job of a line that may be admitted now, or nil.
func (p *pool) take(l *line, now time.Time) *entry {
	if len(l.waiting) == 0 || l.admitted >= p.windowOf(l) || p.pausedKind(l.Class.Kind) != nil {
		return nil
	}
	for n := len(l.waiting); n > 0 && len(l.waiting) > 0; n-- { // a whole round in which nobody could is enough
		s := l.waiting[0]
		if l.credit == 0 {
			l.credit = s.tenant.weight
		}
		if p.mayTake(s.tenant) {
			if e := p.first(s, now); e != nil {
				if l.credit--; l.credit == 0 {
					l.turn()
				}
				return e
			}
		}
		l.turn()
	}
	return nil
}

// turn gives the next tenant its turn, and drops one that has nothing left.
func (l *line) turn() {
	s := l.waiting[0]
	l.waiting, l.credit = append(l.waiting[1:], s), 0
	if len(s.queues) == 0 {
		l.waiting = l.waiting[:len(l.waiting)-1]
		delete(l.shares, s.tenant)
	}
}

func (p *pool) mayTake(t *tenant) bool {
	return (t.limit == 0 || t.inFlight < t.limit) && p.pausedTenant(t.name) == nil
}

// first takes the first job of a share whose registries have room.
func (p *pool) first(s *share, now time.Time) *entry {
	var best *fifo
	s.drop(func(q *fifo) bool {
		for len(q.jobs) > 0 && (q.jobs[0].void() || p.park(q.jobs[0].e)) {
			q.jobs = q.jobs[1:]
		}
		if len(q.jobs) > 0 && (best == nil || q.jobs[0].turn < best.jobs[0].turn) && !p.busy(q.hosts, now) {
			best = q
		}
		return len(q.jobs) == 0
	})
	if best == nil {
		return nil
	}
	e := best.jobs[0].e
	best.jobs = best.jobs[1:]
	if len(best.jobs) == 0 {
		s.drop(func(q *fifo) bool { return q == best })
	}
	e.turn = 0
	return e
}

// drop takes queues out of a share.
func (s *share) drop(which func(*fifo) bool) {
	s.queues = slices.DeleteFunc(s.queues, func(q *fifo) bool {
		drop := which(q)
		if drop {
			delete(s.fifos, q.hosts)
		}
		return drop
	})
}

// busy reports whether one of the registries takes no more jobs now.
func (p *pool) busy(hs *hostSet, now time.Time) bool {
	for _, h := range hs.all() {
		if h.limit > 0 && h.inFlight >= h.limit || p.pausedHost(h.name) != nil {
			return true
		}
		if until, shut := p.shut(h.name, now); shut {
			if p.opens.IsZero() || until.Before(p.opens) {
				p.opens = until
			}
			return true
		}
	}
	return false
}

// before is how many jobs of its tenant are in line before a job.
func (l *line) before(e *entry) (n int) {
	s := l.shares[e.tenant]
	if s == nil {
		return 0
	}
	for _, q := range s.queues {
		for _, w := range q.jobs {
			if !w.void() && w.turn < e.turn {
				n++
			}
		}
	}
	return n
}

// prune drops what is of no use any more: where nobody takes, it would pile up.
func (p *pool) prune() {
	for _, l := range p.lines {
		l.prune()
	}
	p.ready = slices.DeleteFunc(p.ready, func(w waiter) bool { return !p.waits(w) })
	p.parked = slices.DeleteFunc(p.parked, func(e *entry) bool { return !e.isParked })
	p.round++
	for _, e := range p.jobs {
		e.line.used, e.tenant.used = p.round, p.round
		if e.hosts != nil {
			e.hosts.used = p.round
		}
	}
	maps.DeleteFunc(p.hostSets, func(_ string, hs *hostSet) bool { return hs.used != p.round })
	for _, hs := range p.hostSets {
		for _, h := range hs.hosts {
			h.used = p.round
		}
	}
	maps.DeleteFunc(p.hosts, func(_ string, h *host) bool { return h.used != p.round })
	maps.DeleteFunc(p.tenants, func(_ string, t *tenant) bool { return t.used != p.round })
	maps.DeleteFunc(p.lines, func(_ queue.Line, l *line) bool { return l.used != p.round && l.slots == 0 })
	p.order = slices.DeleteFunc(p.order, func(l *line) bool { return p.lines[l.Line] != l })
}

// prune drops places that are void, and tenants who have no other.
func (l *line) prune() {
	if len(l.waiting) == 0 {
		return
	}
	turn := l.waiting[0]
	l.waiting = slices.DeleteFunc(l.waiting, func(s *share) bool {
		s.drop(func(q *fifo) bool {
			q.jobs = slices.DeleteFunc(q.jobs, place.void)
			return len(q.jobs) == 0
		})
		if len(s.queues) == 0 {
			delete(l.shares, s.tenant)
		}
		return len(s.queues) == 0
	})
	if len(l.waiting) == 0 || l.waiting[0] != turn {
		l.credit = 0
	}
}

func (p *pool) pausedKind(kind string) *queue.Pause {
	return p.paused(func(s queue.Selector) bool { return s == queue.Selector{} || s.Kind == kind && kind != "" })
}

func (p *pool) pausedTenant(name string) *queue.Pause {
	return p.paused(func(s queue.Selector) bool { return s.Tenant == name && name != "" })
}

func (p *pool) pausedHost(name string) *queue.Pause {
	return p.paused(func(s queue.Selector) bool { return s.Registry == name && name != "" })
}

func (p *pool) paused(matches func(queue.Selector) bool) *queue.Pause {
	for i := range p.controls.Pauses {
		if matches(p.controls.Pauses[i].Selector) {
			return &p.controls.Pauses[i]
		}
	}
	return nil
}

// pausedJob is what keeps a job from being admitted, or nil.
func (p *pool) pausedJob(e *entry) *queue.Pause {
	if x := p.pausedKind(e.line.Class.Kind); x != nil {
		return x
	}
	if x := p.pausedTenant(e.tenant.name); x != nil {
		return x
	}
	for _, h := range e.hosts.all() {
		if x := p.pausedHost(h.name); x != nil {
			return x
		}
	}
	return nil
}

// takeBack gives the jobs that are paused now, have not started, and are admitted or
// have a message among these.
func (p *pool) takeBack(work map[string]uint64) (back []*entry) {
	if len(p.controls.Pauses)+len(p.held) == 0 {
		return nil
	}
	for _, e := range p.jobs {
		if (e.state == queued || e.state == retry) && (e.admitted || work[e.subject()] > 0) && (p.pausedJob(e) != nil || p.heldBy(e) != nil) {
			back = append(back, e)
		}
	}
	slices.SortFunc(back, func(a, b *entry) int { return strings.Compare(string(a.id), string(b.id)) })
	return back
}

// control sets what people have decided: limits, weights and pauses.
func (p *pool) control(c queue.Controls) {
	p.controls = c
	for name, t := range p.tenants {
		t.weight, t.limit = max(c.Tenants[name].Weight, 1), c.Tenants[name].MaxInFlight
	}
	for name, h := range p.hosts {
		h.limit = c.Registries[name].Concurrency
	}
	p.hold(c.Jobs)
}
