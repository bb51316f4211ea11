package rate_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lithify/lithify/queue/rate"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// at is a time after the start.
func at(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }

func wantGrant(t *testing.T, got, want rate.Grant) {
	t.Helper()
	if got.Free != want.Free || got.N != want.N || (got.Wait-want.Wait).Abs() > time.Millisecond {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func wantRate(t *testing.T, b *rate.Bucket, want float64) {
	t.Helper()
	if got := b.Rate(); math.Abs(got-want) > 1e-6 {
		t.Errorf("got %v requests a second, want %v", got, want)
	}
}

func TestNothingKnown(t *testing.T) {
	var b rate.Bucket
	wantGrant(t, b.Take(at(0), 3), rate.Grant{Free: true})
	if !b.Idle(at(0)) {
		t.Error("there is something to remember")
	}
	if b.Sent(at(0), []int{1}); b.Idle(at(9)) || !b.Idle(at(11)) {
		t.Error("what was sent counts for ten seconds")
	}
}

func TestConfigured(t *testing.T) {
	var b rate.Bucket
	b.Configure(rate.Limit{Rate: 2, Burst: 3})
	wantGrant(t, b.Take(at(0), 9), rate.Grant{N: 3})
	wantGrant(t, b.Take(at(0), 9), rate.Grant{N: 1, Wait: time.Second / 2})
	wantGrant(t, b.Take(at(0), 9), rate.Grant{N: 1, Wait: time.Second})
	wantGrant(t, b.Take(at(2), 9), rate.Grant{N: 2})
	wantGrant(t, b.Take(at(60), 9), rate.Grant{N: 3})
	if b.Idle(at(600)) {
		t.Error("what is configured is forgotten")
	}
	b.Configure(rate.Limit{})
	wantGrant(t, b.Take(at(600), 9), rate.Grant{Free: true})
}

// No more is promised than in the next ten seconds, whoever asks.
func TestHorizon(t *testing.T) {
	var b rate.Bucket
	b.Configure(rate.Limit{Rate: 1, Burst: 1})
	given, later := 0, 0
	for range 100 {
		switch g := b.Take(at(0), 1); {
		case g.N == 0 && g.Wait < 5*time.Second:
			t.Errorf("asked again after %v", g.Wait)
		case g.N == 0:
			later++
		case g.Wait > 10*time.Second:
			t.Errorf("promised %+v", g)
		default:
			given++
		}
	}
	if given != 11 || later != 89 {
		t.Errorf("%d have a turn, %d none, want 11 and 89", given, later)
	}
}

// A rate lower than one in ten seconds is kept, and reached.
func TestOneInAHundredSeconds(t *testing.T) {
	var b rate.Bucket
	b.Configure(rate.Limit{Rate: 0.01})
	given := 0
	for now := 0.0; now < 1050; {
		g := b.Take(at(now), 1)
		given += g.N
		now += g.Wait.Seconds()
	}
	if given < 9 || given > 11 {
		t.Errorf("%d turns in 1050 s", given)
	}
}

func TestRefusedOnce(t *testing.T) {
	var b rate.Bucket
	b.Sent(at(0), []int{0, 10, 9, 0, 3})
	for range 5 { // of one burst
		b.Refused(at(0.5), 3*time.Second)
	}
	wantRate(t, &b, 5)
	wantGrant(t, b.Take(at(1), 9), rate.Grant{Wait: 2500 * time.Millisecond})
	if got, want := b.ShutUntil(), at(3.5); !got.Equal(want) {
		t.Errorf("shut until %v, want %v", got, want)
	}
	wantGrant(t, b.Take(at(3.5), 9), rate.Grant{N: 1, Wait: 200 * time.Millisecond}) // no burst at first
	b.Take(at(63.5), 0)
	wantRate(t, &b, 10)
	if b.Take(at(63.5+359), 0); b.Rate() == 0 {
		t.Error("forgotten too early")
	}
	wantGrant(t, b.Take(at(63.5+361), 9), rate.Grant{Free: true})
}

// One that refused when it had hardly been asked is not starved for long.
func TestRefusedAtOnce(t *testing.T) {
	var b rate.Bucket
	b.Refused(at(0), 0)
	wantRate(t, &b, 0.5)
	b.Take(at(41), 0)
	wantRate(t, &b, 2.5)
	wantGrant(t, b.Take(at(72), 9), rate.Grant{Free: true})
}

// How much was too much, others tell only when they hear of it.
func TestToldLate(t *testing.T) {
	var b rate.Bucket
	b.Sent(at(0), []int{6})
	b.Refused(at(0.1), 3*time.Second)
	wantRate(t, &b, 3)
	b.Sent(at(1.2), []int{0, 14, -1000})
	wantRate(t, &b, 10)
	b.Sent(at(3.2), []int{1000}) // after it was opened
	wantRate(t, &b, 10)
}

func TestMeter(t *testing.T) {
	var m rate.Meter
	m.Add(at(0), 1)
	m.Add(at(2), 2)
	m.Add(at(2.9), 3)
	if diff := cmp.Diff([]int{0, 5, 0, 1}, m.Take(at(3))); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
	m.Add(at(4), 7)
	if got := m.Take(at(14)); len(got) != 0 {
		t.Errorf("got %v of ten seconds before", got)
	}
}

// A host that goes on refusing gets half as much each time, to a floor.
func TestRefusedAgainAndAgain(t *testing.T) {
	var b rate.Bucket
	b.Sent(at(0), []int{8})
	b.Refused(at(0), 0)
	wantRate(t, &b, 4)
	b.Sent(at(1), []int{100}) // more than it was given
	b.Refused(at(1), 0)
	wantRate(t, &b, 2)
	for i := range 20 {
		b.Refused(at(2+float64(i)), 0)
	}
	wantRate(t, &b, 0.2)
}

func TestConfiguredAndRefused(t *testing.T) {
	var b rate.Bucket
	b.Configure(rate.Limit{Rate: 10, Burst: 100})
	b.Sent(at(0), []int{100})
	b.Refused(at(0), time.Second)
	wantRate(t, &b, 5)
	wantGrant(t, b.Take(at(31), 100), rate.Grant{N: 7}) // what a second has, no burst
	b.Take(at(62), 0)
	wantRate(t, &b, 10)
	wantGrant(t, b.Take(at(160), 200), rate.Grant{N: 100})
}

func TestShutIsBounded(t *testing.T) {
	var b rate.Bucket
	b.Refused(at(0), 1e6*time.Hour)
	if got, want := b.ShutUntil(), at(3600); !got.Equal(want) {
		t.Errorf("shut until %v, want %v", got, want)
	}
	if b.Refused(at(10), time.Second); !b.ShutUntil().Equal(at(3600)) {
		t.Error("a shorter wish opens it")
	}
}

// However the time is cut up, a bucket gives no more than its rate.
func TestNeverMoreThanTheRate(t *testing.T) {
	for _, step := range []float64{0.003, 0.1, 0.7, 5} {
		var b rate.Bucket
		b.Configure(rate.Limit{Rate: 20, Burst: 5})
		n := 0
		for now := 0.0; now <= 100; now += step {
			n += b.Take(at(now), 1000).N
		}
		if n > 20*100+5+20*10 { // with what is promised ahead
			t.Errorf("%d turns in 100 s by steps of %v s", n, step)
		}
	}
}
