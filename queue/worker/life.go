package worker

import (
	"sync"
	"sync/atomic"
	"time"
)

// life is the proof of life of one attempt.
type life struct {
	last  atomic.Int64 // unix nanoseconds
	bytes atomic.Int64

	mu    sync.Mutex
	quiet map[int]phase
	next  int
}

// phase is declared silence.
type phase struct {
	until time.Time
	why   string
}

func (l *life) beat(n int64) {
	l.bytes.Add(n)
	l.last.Store(time.Now().UnixNano())
}

func (l *life) begin(bound time.Duration, why string) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.quiet == nil {
		l.quiet = map[int]phase{}
	}
	key := l.next
	l.next++
	l.quiet[key] = phase{time.Now().Add(bound), why}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.quiet, key)
		l.beat(0)
	}
}

// silent says for how long there was neither proof of life nor a quiet phase
// within its bound, and which phase outlived its bound.
func (l *life) silent(now time.Time) (d time.Duration, phase string) {
	since := time.Unix(0, l.last.Load())
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.quiet {
		if p.until.After(now) {
			return 0, ""
		}
		if p.until.After(since) {
			since = p.until
		}
		phase = p.why
	}
	return now.Sub(since), phase
}
