package jobs

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"time"
)

// Edge is one step of a job's life: [Open], [Claim], [Finish], [Fail], [Wait],
// [Resume], [Join], [HandBack], [Cancel], [Expire], [Extend] or [Reject].
type Edge interface {
	// next gives the record after the edge; false if the edge does not leave r.State.
	next(r Record) (Record, bool)
	at() time.Time
}

// EdgeError says that a job's state has no such edge.
type EdgeError struct {
	ID   ID
	From State // empty: the job does not exist
	Edge Edge
}

func (e *EdgeError) Error() string {
	from := e.From
	if from == "" {
		from = "new"
	}
	return fmt.Sprintf("job %s is %s: no edge %T", e.ID, from, e.Edge)
}

// Next is the record after edge e, or an [*EdgeError]. It is the only writer of
// records, and pure.
func Next(r Record, e Edge) (Record, error) {
	n, ok := e.next(r)
	if !ok {
		return r, &EdgeError{r.ID, r.State, e}
	}
	n.Updated = e.at()
	return n, nil
}

// Open accepts a new job, or one that ended without a result: that is a new
// generation with all its attempts. One that is quarantined only Force opens.
type Open struct {
	Job   Job
	Force bool // a person wants it, knowing what it did
	At    time.Time
}

func (e Open) next(r Record) (Record, bool) {
	j := e.Job
	return Record{ID: j.ID, Class: j.Class, Priority: j.Priority, Tenant: j.Tenant, Hosts: j.Hosts, Direct: j.Parent == "", State: Queued,
		Generation: r.Generation + 1, MaxAttempts: j.MaxAttempts, Created: j.Created, Deadline: j.Deadline, NotBefore: j.NotBefore}, r.State == "" || r.State.Ended() && r.State != Done && (e.Force || !r.Quarantined())
}

// Claim gives the job to a worker that received a message of it. A running job may
// be claimed if its owner fell silent: its message came again, or the scheduler found
// it lost and sent another for this very record. That poisons the attempt, as the
// owner may have died of the job, until it is heard of again. Any other message of a
// running job is a duplicate of the one that was claimed, and there is no edge. Past
// its deadline the record comes back Failed; whoever claims looks at the state.
//
// After the job's last attempt, or a second poisoned one, it comes back in Retry if
// that attempt ended by silence, and is Dead if none of the silent is back by Doubt.
type Claim struct {
	Worker  string
	Message uint64        // sequence in WORK: that of a redelivery is the same
	Current bool          // the message was sent for this version of the record
	Back    []string      // those of Record.Silent that were heard of again
	Doubt   time.Duration // how long a silence that ends the job is not believed; 0: it is at once
	At      time.Time
}

func (e Claim) next(r Record) (Record, bool) {
	ok := r.State == Queued || r.State == Retry || r.State == Running && (e.Current || e.Message == r.Message || r.Message == 0)
	switch {
	case expired(r, e.At):
		r, _ = Expire{e.At}.next(r)
		return r, ok
	case r.State == Running:
		r = r.silenced(e)
		if r.lastAttempt() {
			r.State, r.Failure = Dead, &Failure{ClassPoison, KindUnavailable,
				fmt.Sprintf("worker %s fell silent in attempt %d of %d (poisoned: %d)", r.Worker, r.Attempt, r.MaxAttempts, r.Poisoned)}
			if e.Doubt > 0 {
				r.State, r.NotBefore = Retry, e.At.Add(e.Doubt)
			}
			return r, ok
		}
	case r.Doubted():
		if r = r.pardoned(e.Back); r.lastAttempt() {
			r.State, r.NotBefore = Dead, time.Time{}
			return r, ok
		}
	}
	r.State, r.Worker, r.NotBefore, r.Claim, r.Message = Running, e.Worker, time.Time{}, 0, e.Message
	r.Attempt++
	return r, ok
}

// Finish ends a running job with its result.
type Finish struct {
	Claim  uint64 // sequence of the claim being ended
	Result json.RawMessage
	At     time.Time

	Signer, Signature string // as in the record; the queue adds them
}

func (e Finish) next(r Record) (Record, bool) {
	ok := r.State == Running
	r.State, r.Claim, r.Result, r.Failure = Done, e.Claim, e.Result, nil
	r.Signer, r.Signature = e.Signer, e.Signature
	return r, ok
}

// Fail ends a running attempt: Failed if it was permanent, else Retry or, after
// the last attempt, Dead. A second poisoned attempt is the last. A lack of the
// worker's resources costs no attempt, nor does a wait that is longer than any backoff.
type Fail struct {
	Claim   uint64
	Failure Failure
	Delay   time.Duration // at least this long until the next attempt; 0: back off
	At      time.Time
}

func (e Fail) next(r Record) (Record, bool) {
	ok := r.State == Running
	r.Claim, r.Failure = e.Claim, &e.Failure
	delay := e.Delay
	if delay <= 0 {
		delay = backoff(r.ID, r.Attempt)
	}
	if e.Failure.Class == ClassPoison {
		r.Poisoned++
	}
	switch {
	case e.Failure.Class == ClassPermanent:
		r.State = Failed
	case e.Failure.Class == ClassResource, e.Delay > maxBackoff: // so seldom that the deadline is bound enough
		r.State, r.NotBefore = Retry, e.At.Add(delay)
		r.Attempt--
	case r.lastAttempt():
		r.State = Dead
	default:
		r.State, r.NotBefore = Retry, e.At.Add(delay)
	}
	return r, ok
}

// HandBack returns a running job that its worker will not finish (it drains).
// It costs no attempt.
type HandBack struct {
	Claim uint64
	At    time.Time
}

func (e HandBack) next(r Record) (Record, bool) {
	ok := r.State == Running
	r.State, r.Claim = Queued, e.Claim
	r.Attempt--
	return r, ok
}

// Cancel ends a job that has not ended. A running worker finds its claim gone.
type Cancel struct {
	Reason string
	At     time.Time
}

func (e Cancel) next(r Record) (Record, bool) {
	ok := !r.State.Ended() && r.State != ""
	r.State, r.Reason, r.NotBefore = Cancelled, e.Reason, time.Time{}
	return r, ok
}

// Expire ends a job that is past its deadline.
type Expire struct{ At time.Time }

func (e Expire) next(r Record) (Record, bool) {
	ok := !r.State.Ended() && r.State != "" && expired(r, e.At)
	msg := "deadline passed"
	if r.Failure != nil {
		msg += " after: " + r.Failure.Message
	}
	r.State, r.NotBefore, r.Failure = Failed, time.Time{}, &Failure{ClassPermanent, KindDeadlineExceeded, msg}
	return r, ok
}

// Reject ends a queued job whose args the scheduler does not accept.
type Reject struct {
	Message string
	At      time.Time
}

func (e Reject) next(r Record) (Record, bool) {
	ok := r.State == Queued
	r.State, r.Failure = Failed, &Failure{ClassPermanent, KindInvalidArgument, e.Message}
	return r, ok
}

func (e Open) at() time.Time     { return e.At }
func (e Claim) at() time.Time    { return e.At }
func (e Finish) at() time.Time   { return e.At }
func (e Fail) at() time.Time     { return e.At }
func (e HandBack) at() time.Time { return e.At }
func (e Cancel) at() time.Time   { return e.At }
func (e Expire) at() time.Time   { return e.At }
func (e Reject) at() time.Time   { return e.At }

func expired(r Record, at time.Time) bool { return !r.Deadline.IsZero() && at.After(r.Deadline) }

// lastAttempt reports whether the attempt that just failed was the last.
func (r Record) lastAttempt() bool { return r.Attempt >= r.MaxAttempts || r.Poisoned >= maxPoison }

const (
	maxPoison  = 2 // one crash can be an accident of the machine
	minBackoff = 2 * time.Second
	maxBackoff = 5 * time.Minute
)

// backoff grows fourfold by attempt and is spread over a quarter by the job's
// ID, so that the jobs of one failing registry do not come back as one wave.
func backoff(id ID, attempt int) time.Duration {
	d := minBackoff
	for i := 1; i < attempt && d < maxBackoff; i++ {
		d *= 4
	}
	d = min(d, maxBackoff)
	h := fnv.New32a()
	h.Write([]byte(id))
	return d + d/4*time.Duration(h.Sum32()%1024)/1024
}
