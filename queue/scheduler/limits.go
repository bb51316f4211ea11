package scheduler

import (
	"sync"
	"time"

	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/rate"
)

// maxHosts bounds what is remembered of hosts: what a worker reports is not ours. A
// host beyond it has no limit but the one that its refusals set in each worker.
const maxHosts = 4096

// limits share out the requests that each host bears. Workers are answered beside the
// loop, which may be waiting for a disk. They are the leader's memory and nothing
// else: the next one learns anew, by a refusal a host.
type limits struct {
	mu         sync.Mutex
	hosts      map[string]*rate.Bucket
	configured map[string]rate.Limit
	pruned     time.Time
}

// configure sets what is configured, of all hosts.
func (l *limits) configure(all map[string]rate.Limit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.configured = all
	for host, b := range l.hosts {
		b.Configure(all[host])
	}
}

// forget is what a scheduler does that leads no more.
func (l *limits) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.hosts)
}

// worthTelling is how much longer a host has to be left alone for all workers to hear
// of it: the refusals of one burst each add a little.
const worthTelling = time.Second

// take answers a demand, and says for how long a host is to be left alone if that is
// new.
func (l *limits) take(d queue.Demand, now time.Time) (g rate.Grant, shut time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucket(d.Host, now)
	if b == nil {
		return rate.Grant{Free: true}, 0
	}
	b.Sent(now, d.Sent)
	if d.Refused {
		before := b.ShutUntil()
		if b.Refused(now, d.Asked); b.ShutUntil().Sub(later(before, now)) >= worthTelling {
			shut = b.ShutUntil().Sub(now)
		}
	}
	if d.Want > 0 {
		g = b.Take(now, d.Want)
	}
	return g, shut
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// bucket is that of a host; there is none if there are too many.
func (l *limits) bucket(host string, now time.Time) *rate.Bucket {
	if b := l.hosts[host]; b != nil {
		return b
	}
	if len(l.hosts) >= maxHosts && now.Sub(l.pruned) > time.Second {
		l.prune(now)
	}
	if _, known := l.configured[host]; len(l.hosts) >= maxHosts && !known || len(host) > maxHostLen {
		return nil
	}
	b := &rate.Bucket{}
	b.Configure(l.configured[host])
	if l.hosts == nil {
		l.hosts = map[string]*rate.Bucket{}
	}
	l.hosts[host] = b
	return b
}

// maxHostLen is a DNS name's, with a port.
const maxHostLen = 253 + len(":65535")

func (l *limits) prune(now time.Time) {
	l.pruned = now
	for host, b := range l.hosts {
		if b.Idle(now) {
			delete(l.hosts, host)
		}
	}
}

// shutUntil is the time before which a host is left alone, if it is.
func (l *limits) shutUntil(host string, now time.Time) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.hosts[host]
	if b == nil || !b.ShutUntil().After(now) {
		return time.Time{}, false
	}
	return b.ShutUntil(), true
}

// serveLimits shares requests out to the workers, until stop.
func (s *Scheduler) serveLimits() (stop func()) {
	stop, err := s.client.ServeLimits(func(d queue.Demand) rate.Grant {
		g, shut := s.limits.take(d, time.Now())
		if shut > 0 {
			s.log.Info("registry asked for fewer requests", "host", d.Host, "shut", shut.Round(time.Millisecond))
			if err := s.client.TellShut(queue.Shut{Host: d.Host, For: shut}); err != nil {
				s.log.Debug("workers not told of a limit", "host", d.Host, "error", err)
			}
		}
		return g
	})
	if err != nil {
		s.log.Warn("nobody shares requests out", "error", err)
		return func() {}
	}
	return stop
}
