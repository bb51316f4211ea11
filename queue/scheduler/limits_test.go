package scheduler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lithify/lithify/queue"
	"github.com/lithify/lithify/queue/rate"
)

func TestLimitsOfAFleet(t *testing.T) {
	var l limits
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ask := func(d queue.Demand) (rate.Grant, time.Duration) {
		d.Host = "host"
		return l.take(d, now)
	}
	if g, _ := ask(queue.Demand{Want: 1}); !g.Free {
		t.Errorf("got %+v of a host that nobody knows", g)
	}
	ask(queue.Demand{Want: 1, Sent: []int{1, 0, 3}}) // one worker
	ask(queue.Demand{Want: 1, Sent: []int{0, 0, 1}}) // another
	if _, shut := ask(queue.Demand{Refused: true, Asked: 3 * time.Second}); shut != 3*time.Second {
		t.Errorf("shut for %v, want 3 s", shut)
	}
	now = now.Add(100 * time.Millisecond)
	if _, shut := ask(queue.Demand{Refused: true, Asked: 3 * time.Second}); shut != 0 {
		t.Errorf("told again, for %v", shut)
	}
	ask(queue.Demand{Sent: []int{0, 0, 4}}) // a third, which heard of it
	if _, shut := ask(queue.Demand{Refused: true, Asked: 9 * time.Second}); shut != 9*time.Second {
		t.Errorf("shut for %v, want 9 s", shut)
	}
	if g, _ := ask(queue.Demand{Want: 5}); g.N != 0 || g.Wait != 9*time.Second {
		t.Errorf("got %+v of a host that is shut", g)
	}
	if until, is := l.shutUntil("host", now); !is || !until.Equal(now.Add(9*time.Second)) {
		t.Errorf("shut until %v, %v", until, is)
	}
	if _, is := l.shutUntil("other", now); is {
		t.Error("another host is shut, too")
	}
	now = now.Add(10 * time.Second) // one second open, at half of 8
	if g, _ := ask(queue.Demand{Want: 50}); g.N != 4 {
		t.Errorf("got %+v, want 4", g)
	}
	if _, is := l.shutUntil("host", now); is {
		t.Error("still shut")
	}
	if l.forget(); l.hosts["host"] != nil {
		t.Error("not forgotten")
	}
}

func TestConfiguredLimits(t *testing.T) {
	var l limits
	now := time.Now()
	take := func(host string) rate.Grant {
		g, _ := l.take(queue.Demand{Host: host, Want: 9}, now)
		return g
	}
	take("late")
	l.configure(map[string]rate.Limit{"early": {Rate: 1, Burst: 2}, "late": {Rate: 1, Burst: 3}})
	if g := take("early"); g.N != 2 {
		t.Errorf("got %+v, want the burst", g)
	}
	if g := take("late"); g.N != 1 || g.Wait != time.Second {
		t.Errorf("got %+v of a host that was in use, want the rate and no burst", g)
	}
	if l.configure(nil); !take("early").Free {
		t.Error("what is no longer configured counts")
	}
}

// Whatever workers tell of hosts, memory is bounded and hosts in use keep theirs.
func TestHostsAreBounded(t *testing.T) {
	var l limits
	now := time.Now()
	take := func(host string, asked time.Duration) rate.Grant {
		g, _ := l.take(queue.Demand{Host: host, Want: 1, Sent: []int{1}, Refused: asked > 0, Asked: asked}, now)
		return g
	}
	take("shut", time.Hour)
	for i := range 2 * maxHosts {
		if g := take(fmt.Sprint("flood-", i), 0); !g.Free {
			t.Fatalf("got %+v", g)
		}
	}
	if g := take(strings.Repeat("x", 1000), time.Hour); !g.Free {
		t.Errorf("got %+v of what is no host", g)
	}
	if len(l.hosts) > maxHosts {
		t.Errorf("%d hosts are remembered", len(l.hosts))
	}
	now = now.Add(time.Minute)
	if take("new", time.Minute); l.hosts["new"] == nil || len(l.hosts) > 3 {
		t.Errorf("%d hosts are remembered a minute later, new %v", len(l.hosts), l.hosts["new"])
	}
	if g := take("shut", 0); g.Wait != time.Hour-time.Minute {
		t.Errorf("got %+v of a host that is shut", g)
	}
}
