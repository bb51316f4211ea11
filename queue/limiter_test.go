package queue_test

import (
	"testing"
	"time"

	"github.com/lithify/lithify/queue"
)

// limiter is that of a worker with a connection of its own.
func (p *pool) limiter(name string) *queue.Limiter {
	p.t.Helper()
	l, err := p.connect(name).Limiter()
	if err != nil {
		p.t.Fatal(err)
	}
	return l
}

// What one worker is refused, no worker asks for.
func TestRefusalOfOneIsAllWorkers(t *testing.T) {
	p := newPool(t)
	_, stop := p.named("s")
	p.leader(1)
	a, b, late := p.limiter("a"), p.limiter("b"), p.limiter("late")
	for range 20 {
		for name, l := range map[string]*queue.Limiter{"a": a, "b": b} {
			if wait := l.Turn(t.Context(), "one"); wait != 0 {
				t.Fatalf("%s waits %v for a host that nobody knows", name, wait)
			}
		}
	}
	a.Refused("one", time.Hour)
	told := time.Now()
	p.until("limit at b, who had leave to go on", func() bool { return b.Turn(t.Context(), "one") > 59*time.Minute })
	if took := time.Since(told); took > 5*time.Second {
		t.Errorf("b heard of it after %v: when its leave had run out", took)
	}
	for name, l := range map[string]*queue.Limiter{"a": a, "late": late} {
		if wait := l.Turn(t.Context(), "one"); wait < 59*time.Minute {
			t.Errorf("%s waits %v, want an hour", name, wait)
		}
	}
	for name, l := range map[string]*queue.Limiter{"a": a, "b": b, "late": late} {
		if wait := l.Turn(t.Context(), "two"); wait != 0 {
			t.Errorf("%s waits %v for another host", name, wait)
		}
	}
	stop()
	p.until("limit at b, which has nobody to ask", func() bool { return b.Turn(t.Context(), "one") > 59*time.Minute })
}

// Opened again, the host gets half as many requests, from all workers together.
func TestWorkersShareWhatIsLeft(t *testing.T) {
	p := newPool(t)
	p.named("s")
	p.leader(1)
	workers := []*queue.Limiter{p.limiter("a"), p.limiter("b")}
	for range 4 {
		workers[0].Turn(t.Context(), "host")
	}
	workers[0].Refused("host", 0)
	p.until("limit at b", func() bool { return workers[1].Turn(t.Context(), "host") > 0 })
	var sent int
	began := time.Now()
	p.until("ten turns", func() bool {
		for _, l := range workers {
			if l.Turn(t.Context(), "host") == 0 {
				sent++
			}
		}
		return sent >= 10
	})
	// 4 in one second or, if that was two, 2 and 2: so 2 a second after the first, or 1.
	if took := time.Since(began); took < 3*time.Second {
		t.Errorf("%d turns in %v", sent, took)
	}
}

// Nobody there to ask: nothing hangs, and a worker heeds what it was itself told.
func TestLimiterWithoutScheduler(t *testing.T) {
	p := newPool(t)
	a, b := p.limiter("a"), p.limiter("b")
	for name, l := range map[string]*queue.Limiter{"a": a, "b": b} {
		if wait := l.Turn(t.Context(), "host"); wait != 0 {
			t.Errorf("%s waits %v", name, wait)
		}
	}
	a.Refused("host", time.Hour)
	if wait := a.Turn(t.Context(), "host"); wait < 59*time.Minute {
		t.Errorf("a waits %v, want an hour", wait)
	}
	if wait := b.Turn(t.Context(), "host"); wait != 0 {
		t.Errorf("b waits %v: who told it?", wait)
	}
}

// The server itself is away.
func TestLimiterWithoutServer(t *testing.T) {
	p := newPool(t)
	p.named("s")
	p.leader(1)
	c := p.connect("a")
	l, err := c.Limiter()
	if err != nil {
		t.Fatal(err)
	}
	c.JetStream().Conn().Close()
	began := time.Now()
	for range 100 {
		if wait := l.Turn(t.Context(), "host"); wait != 0 {
			t.Fatalf("waits %v", wait)
		}
	}
	l.Refused("host", time.Hour)
	if wait := l.Turn(t.Context(), "host"); wait < 59*time.Minute {
		t.Errorf("waits %v, want an hour", wait)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// The next leader knows nothing and learns by one refusal.
func TestNextLeaderLearnsLimits(t *testing.T) {
	p := newPool(t)
	_, stop := p.named("one")
	p.leader(1)
	p.named("two")
	p.leader(2)
	a, b := p.limiter("a"), p.limiter("b")
	b.Turn(t.Context(), "host")
	stop()
	p.leader(1, "one")
	p.until("answer of the next", func() bool {
		a.Refused("host", time.Hour)
		return b.Turn(t.Context(), "host") > 59*time.Minute
	})
}
