// Package rate shares out requests to a host that bears only so many. A [Bucket]'s
// rate is configured, or learned from what the host itself refuses: half of what
// was sent when it refused, and slowly more as long as it does not refuse again.
//
// It does no I/O, starts nothing and knows no clock: whoever asks says what time it is.
package rate

import "time"

// Limit is what somebody configured for a host. The zero value is no limit.
type Limit struct {
	Rate  float64 `json:"rate,omitempty"`  // requests a second
	Burst int     `json:"burst,omitempty"` // that may go at once after a pause; default one second's worth
}

// Grant is the answer to who wants to send requests.
type Grant struct {
	Free bool          `json:"free,omitempty"` // no limit is known: as many as there are
	N    int           `json:"n,omitempty"`    // else so many,
	Wait time.Duration `json:"wait,omitempty"` // after this; where N is 0 it is when to ask again
}

const (
	// lowest is the rate below which a learned one does not fall: a host that wants
	// less says so with a Retry-After.
	lowest = 0.2
	// A host that refuses is left alone for at least as long as it takes until what is
	// on its way has been answered, and for at most so long that whoever lies to us
	// stops nobody for a day.
	shortestShut = time.Second
	longestShut  = time.Hour
	// regrowth is how long it takes from half of what was refused back to all of it: a
	// host is asked for too much about once in that time.
	regrowth = time.Minute
	// growth is the least by which a rate grows in a second: a host that refused before
	// it was asked for much may bear far more.
	growth = 0.05
	// forgotten is how many times the refused rate is reached again, without a
	// refusal, before the limit counts as gone.
	forgotten = 4
	// horizon is how far ahead a turn is promised.
	horizon = 10 * time.Second
)

// Bucket is the state of one host. The zero value knows no limit. It is not safe
// for concurrent use, and time given to it does not go back.
type Bucket struct {
	limit   Limit
	learned float64 // requests a second; 0: none
	refused float64 // what was sent when the host refused
	before  float64 // Rate then

	tokens float64 // below zero: promised
	at     time.Time
	shut   time.Time
	sent   Meter
}

// Configure sets the limit that is never exceeded, or with the zero value takes it away.
func (b *Bucket) Configure(l Limit) { b.limit = l }

// Take gives up to want turns. A turn that is not used is lost.
func (b *Bucket) Take(now time.Time, want int) Grant {
	b.advance(now)
	if wait := b.shut.Sub(now); wait > 0 {
		return Grant{Wait: wait}
	}
	per := b.Rate()
	if per == 0 {
		return Grant{Free: true}
	}
	if n := min(want, int(b.tokens)); n > 0 {
		b.tokens -= float64(n)
		return Grant{N: n}
	}
	wait := seconds((1 - b.tokens) / per)
	if wait > horizon {
		return Grant{Wait: max(wait-horizon, horizon/2)}
	}
	b.tokens--
	return Grant{N: 1, Wait: wait}
}

// Sent says what was sent, as a Meter counts it. After a refusal, while the host is
// shut, it is still counted in what was refused: others tell of theirs only then.
func (b *Bucket) Sent(now time.Time, counts []int) {
	b.sent.add(now, counts)
	if b.learned > 0 && b.shut.After(now) {
		b.learn(now)
	}
}

// Refused says that the host refused a request for being one too many, and asked to
// be left alone for a time, or 0. Refusals of one burst count once.
func (b *Bucket) Refused(now time.Time, asked time.Duration) {
	b.advance(now)
	again := b.shut.After(now)
	b.Shut(now, max(asked, shortestShut))
	if !again {
		b.before, b.refused = b.Rate(), 1
		b.learn(now)
	}
}

func (b *Bucket) learn(now time.Time) {
	b.refused = max(b.refused, float64(b.sent.busiest(now)))
	if b.before > 0 {
		b.refused = min(b.refused, b.before)
	}
	b.learned = max(b.refused/2, lowest)
}

// Shut leaves the host alone for a time, without learning from it.
func (b *Bucket) Shut(now time.Time, d time.Duration) {
	b.tokens = 0 // with what was promised
	if until := now.Add(min(d, longestShut)); until.After(b.shut) {
		b.shut = until
	}
}

// ShutUntil is the time before which the host is left alone; it may have passed.
func (b *Bucket) ShutUntil() time.Time { return b.shut }

// Rate is how many requests a second the host gets now, 0 without a limit.
func (b *Bucket) Rate() float64 {
	if b.limit.Rate > 0 && (b.learned == 0 || b.learned > b.limit.Rate) {
		return b.limit.Rate
	}
	return b.learned
}

// Idle reports whether nothing would be lost with the bucket.
func (b *Bucket) Idle(now time.Time) bool {
	b.advance(now)
	return b.limit == Limit{} && b.learned == 0 && !b.shut.After(now) && b.sent.busiest(now) == 0
}

// advance lets time pass, but for that in which the host was shut.
func (b *Bucket) advance(now time.Time) {
	from := b.at
	if b.shut.After(from) {
		from = b.shut
	}
	if now.After(b.at) {
		b.at = now
	}
	dt := now.Sub(from).Seconds()
	if dt <= 0 {
		return
	}
	if b.learned > 0 {
		b.grow(dt)
	}
	if per := b.Rate(); per > 0 {
		b.tokens = min(b.tokens+per*dt, b.burst(per))
	}
}

func (b *Bucket) grow(dt float64) {
	b.learned += max(b.refused/2/regrowth.Seconds(), growth) * dt
	enough := b.refused * forgotten
	if b.limit.Rate > 0 {
		enough = b.limit.Rate
	}
	if b.learned >= enough {
		b.learned = 0
	}
}

func (b *Bucket) burst(per float64) float64 {
	if b.limit.Burst > 0 && b.learned == 0 {
		return float64(b.limit.Burst)
	}
	return max(per, 1)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
