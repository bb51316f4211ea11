package queue

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lithify/lithify/queue/rate"
)

const (
	// leaseFor is how long what the scheduler granted holds. Turns that are not used
	// by then are lost, as a dead worker's are; a worker that has the freedom to send as
	// much as it likes asks again after it.
	leaseFor = 10 * time.Second
	// aloneFor is how long a worker that got no answer decides alone before it asks again.
	aloneFor = 5 * time.Second
	// keptHosts is how many are remembered before those of which nothing is known are
	// dropped: registries redirect to hosts of which there is no end.
	keptHosts = 256
)

// Limiter shares the requests that a host bears with all workers of the pool. The
// scheduler counts; where none answers, the worker goes on by what it has itself been
// refused. It is safe for concurrent use and is a registry.Limiter.
type Limiter struct {
	c *Client

	mu    sync.Mutex
	hosts map[string]*share
}

// share is what this worker knows of one host.
type share struct {
	asking chan struct{} // held by who asks the scheduler

	// Below: under the Limiter's mutex.
	used  time.Time
	free  time.Time   // no limit until then
	turns []turns     // granted
	own   rate.Bucket // what this worker has seen itself
	alone time.Time   // until then the scheduler is not asked
	sent  rate.Meter  // since the scheduler was told
	epoch int         // counts what took grants back
}

// turns are requests that may be sent between two times.
type turns struct {
	n           int
	from, until time.Time
}

// Limiter makes one for this worker, to be used by all its jobs; it ends with the client.
func (c *Client) Limiter() (*Limiter, error) {
	l := &Limiter{c: c, hosts: map[string]*share{}}
	_, err := c.nc.Subscribe(c.heardAt(shutSubject), func(m *nats.Msg) {
		var s Shut
		if err := json.Unmarshal(m.Data, &s); err != nil {
			c.log.Debug("unreadable limit", "error", err)
			return
		}
		l.shut(s)
	})
	return l, err
}

// Turn is 0 if a request may be sent to host now, else when to ask again.
func (l *Limiter) Turn(ctx context.Context, host string) time.Duration {
	s := l.host(host)
	if wait, known := l.take(s); known {
		return wait
	}
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	case <-ctx.Done():
		return 0
	}
	if wait, known := l.take(s); known { // another got it
		return wait
	}
	if wait := l.ask(ctx, host, s); wait > 0 {
		return wait
	}
	if wait, known := l.take(s); known {
		return wait
	}
	return askAgain
}

// askAgain is for who finds that others have used what it was granted.
const askAgain = 50 * time.Millisecond

// ask gets more turns, or knows when to ask for them.
func (l *Limiter) ask(ctx context.Context, host string, s *share) time.Duration {
	l.mu.Lock()
	now := time.Now()
	alone, epoch := s.alone.After(now), s.epoch
	var d Demand
	if !alone {
		d = Demand{Host: host, Sent: s.sent.Take(now), Want: 1}
		d.Want = max(d.Want, slices.Max(append(d.Sent, 0))) // a second's worth
	}
	l.mu.Unlock()
	var g rate.Grant
	var err error
	if !alone {
		g, err = l.c.demand(ctx, d)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now = time.Now()
	if err != nil && ctx.Err() == nil {
		l.c.log.Debug("no scheduler shares requests out", "host", host, "error", err)
		alone, s.alone = true, now.Add(aloneFor)
	}
	if alone {
		g = s.own.Take(now, 1)
	}
	if s.epoch != epoch || ctx.Err() != nil {
		return 0 // it was granted before the host was shut
	}
	return s.accept(now, g)
}

func (s *share) accept(now time.Time, g rate.Grant) time.Duration {
	switch {
	case g.Free && s.alone.After(now):
		s.free = s.alone
	case g.Free:
		s.free = now.Add(leaseFor)
	case g.N > 0:
		from := now.Add(g.Wait)
		s.turns = append(s.turns, turns{g.N, from, from.Add(leaseFor)})
		return g.Wait
	default:
		return max(g.Wait, askAgain)
	}
	return 0
}

// use takes one of the turns whose time it is.
func (s *share) use(now time.Time) bool {
	s.turns = slices.DeleteFunc(s.turns, func(t turns) bool { return t.n == 0 || !t.until.After(now) })
	for i := range s.turns {
		if t := &s.turns[i]; !t.from.After(now) {
			t.n--
			return true
		}
	}
	return false
}

// takeBack ends what was granted before the host was shut.
func (s *share) takeBack() {
	s.epoch++
	s.free, s.turns = time.Time{}, nil
}

// Refused says that host had one request too many.
func (l *Limiter) Refused(host string, asked time.Duration) {
	s := l.host(host)
	now := time.Now()
	l.mu.Lock()
	s.own.Refused(now, asked)
	s.takeBack()
	d := Demand{Host: host, Sent: s.sent.Take(now), Refused: true, Asked: asked}
	l.mu.Unlock()
	l.tell(d)
}

func (l *Limiter) tell(d Demand) {
	if err := l.c.tell(leaseSubject, d); err != nil {
		l.c.log.Debug("scheduler not told of a host", "host", d.Host, "error", err)
	}
}

// shut leaves a host alone, and tells what this worker sent before: the scheduler
// wants to know how much was too much.
func (l *Limiter) shut(x Shut) {
	now := time.Now()
	l.mu.Lock()
	s := l.hosts[x.Host]
	if s == nil {
		l.mu.Unlock()
		return
	}
	s.own.Shut(now, x.For)
	s.takeBack()
	sent := s.sent.Take(now)
	l.mu.Unlock()
	if len(sent) > 0 {
		l.tell(Demand{Host: x.Host, Sent: sent})
	}
}

func (l *Limiter) host(name string) *share {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	s := l.hosts[name]
	if s == nil {
		if len(l.hosts) >= keptHosts {
			l.prune(now)
		}
		s = &share{asking: make(chan struct{}, 1)}
		l.hosts[name] = s
	}
	s.used = now
	return s
}

func (l *Limiter) prune(now time.Time) {
	for name, s := range l.hosts {
		if now.Sub(s.used) > leaseFor && s.own.Idle(now) {
			delete(l.hosts, name)
		}
	}
}

// take uses up a turn that is there, or knows when the next will be.
func (l *Limiter) take(s *share) (wait time.Duration, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if wait := s.own.ShutUntil().Sub(now); wait > 0 {
		return wait, true
	}
	if s.free.After(now) || s.use(now) {
		s.sent.Add(now, 1)
		s.own.Sent(now, []int{1})
		return 0, true
	}
	return 0, false
}
