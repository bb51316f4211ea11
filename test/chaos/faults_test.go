//go:build linux

package chaos_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/lithify/lithify/test/chaos/history"
	"github.com/lithify/lithify/test/chaos/proxy"
)

// plan is a fault that will be done.
type plan struct {
	after  time.Duration // since the one before
	kind   history.Kind
	victim string
	lasts  time.Duration
}

// plans are n faults that follow from r.
func plans(r *rand.Rand, n int, processes, links []string) []plan {
	ofProcess := []history.Kind{history.Kill, history.Kill, history.Freeze, history.Freeze, history.Term}
	ofLink := []history.Kind{history.Cut, history.Partition, history.Deaf, history.Mute, history.Slow}
	ps := make([]plan, n)
	for i := range ps {
		p := plan{after: time.Duration(r.Int64N(int64(600 * time.Millisecond)))}
		if r.IntN(5) < 3 {
			p.kind, p.victim = pick(r, ofProcess), pick(r, processes)
		} else {
			p.kind, p.victim = pick(r, ofLink), pick(r, links)
		}
		p.lasts = 20*time.Millisecond + time.Duration(r.Int64N(int64(ackWait/3)))
		if r.IntN(3) == 0 { // longer than a claim lasts
			p.lasts = ackWait + time.Duration(r.Int64N(int64(ackWait/2)))
		}
		ps[i] = p
	}
	return ps
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// victim takes one fault at a time.
type victim struct {
	mu      sync.Mutex
	process *process // nil: only its connection can be harmed
	proxy   *proxy.Proxy
}

// atOnce bounds the faults that are done at the same time.
const atOnce = 3

// strike does the faults one after the other, some at the same time, until ctx is
// done, and returns when all have ended.
func (w *world) strike(ctx context.Context, ps []plan, victims map[string]*victim) {
	var wait sync.WaitGroup
	defer wait.Wait()
	free := make(chan struct{}, atOnce)
	for _, p := range ps {
		select {
		case <-ctx.Done():
			return
		case <-time.After(p.after):
		}
		free <- struct{}{}
		wait.Go(func() {
			defer func() { <-free }()
			w.harm(p, victims[p.victim])
		})
	}
}

func (w *world) harm(p plan, v *victim) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f := history.Fault{Kind: p.kind, Victim: p.victim, From: time.Now()}
	switch p.kind {
	case history.Kill:
		v.process.end(syscall.SIGKILL, p.lasts)
		v.lasts(p)
	case history.Term:
		v.process.end(syscall.SIGTERM, p.lasts)
		v.lasts(p)
	case history.Freeze:
		v.process.signal(syscall.SIGSTOP)
		v.lasts(p)
		v.process.signal(syscall.SIGCONT)
	case history.Cut:
		v.proxy.Cut()
	case history.Slow:
		v.proxy.Delay(p.lasts / 10)
		v.lasts(p)
	default:
		v.proxy.Block(p.kind != history.Deaf, p.kind != history.Mute)
		v.lasts(p)
	}
	if v.proxy != nil {
		v.proxy.Heal()
	}
	f.Until = time.Now()
	w.log.fault(f)
}

// lasts waits as long as a fault does.
func (v *victim) lasts(p plan) { <-time.After(p.lasts) }
