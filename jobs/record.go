package jobs

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// State is where a job is in its life.
type State string

const (
	Queued    State = "queued"    // accepted; waits for a slot
	Running   State = "running"   // claimed by a worker
	Retry     State = "retry"     // failed, will run again at NotBefore
	Waiting   State = "waiting"   // for its Children to end; then it is queued again
	Done      State = "done"      // has its result; final for ever
	Failed    State = "failed"    // a permanent error, or past its deadline
	Dead      State = "dead"      // used up its attempts
	Cancelled State = "cancelled" // somebody asked for it
)

// States are all states, in the order of a life.
var States = []State{Queued, Running, Retry, Waiting, Done, Failed, Dead, Cancelled}

// Ended reports whether the job will not run again by itself. Only Done is
// final: the others may be opened again, as a new generation.
func (s State) Ended() bool {
	return s == Done || s == Failed || s == Dead || s == Cancelled
}

// Record is the changing part of a job. Claim and result share it, so that one
// compare-and-set on it decides who owns the job and which result stands.
type Record struct {
	ID          ID              `json:"id"`
	Class       Class           `json:"class"`
	Priority    Priority        `json:"priority,omitempty"`
	Tenant      string          `json:"tenant,omitempty"`
	Hosts       []string        `json:"hosts,omitempty"`
	Direct      bool            `json:"direct,omitempty"` // somebody asked for it, and not only jobs that wait for it
	State       State           `json:"state"`
	Generation  int             `json:"generation"` // 1, and one more each time it is opened again
	Attempt     int             `json:"attempt"`    // claims of this generation that count
	MaxAttempts int             `json:"max_attempts"`
	Poisoned    int             `json:"poisoned,omitempty"` // attempts of this generation that panicked or took their worker with them
	Silent      []Silence       `json:"silent,omitempty"`   // the poisoned attempts whose workers fell silent
	Created     time.Time       `json:"created"`
	Updated     time.Time       `json:"updated"`
	Deadline    time.Time       `json:"deadline"`
	Extended    time.Time       `json:"extended,omitzero"`   // when the pause began that the deadline was moved for last
	NotBefore   time.Time       `json:"not_before,omitzero"` // with Retry, or Queued and never run
	Children    []ID            `json:"children,omitempty"`  // that it last waited for
	Waits       int             `json:"waits,omitempty"`     // how often it did
	Worker      string          `json:"worker,omitempty"`    // owner of the last claim
	Message     uint64          `json:"message,omitempty"`   // stream sequence in WORK of the message of the last claim
	Claim       uint64          `json:"claim,omitempty"`     // stream sequence of the claim that ended the last attempt
	Result      json.RawMessage `json:"result,omitempty"`    // with Done
	Signer      string          `json:"signer,omitempty"`    // public key of who signed the result,
	Signature   string          `json:"signature,omitempty"` // with its claim and the job's ID
	Failure     *Failure        `json:"failure,omitempty"`   // of the last attempt that failed
	Reason      string          `json:"reason,omitempty"`    // with Cancelled: who and why
}

// Err is nil for a job that is done; of any other it says how the job stands and,
// if it ended, of what: the failure itself, unless the job was cancelled after an
// attempt that failed.
func (r Record) Err() error {
	switch {
	case r.State == Done:
		return nil
	case r.Failure != nil && r.State != Cancelled:
		return fmt.Errorf("job %s is %s: %w", r.ID, r.State, r.Failure)
	case r.Reason != "":
		return fmt.Errorf("job %s is %s: %s", r.ID, r.State, r.Reason)
	}
	return fmt.Errorf("job %s is %s", r.ID, r.State)
}

// Quarantined reports whether the job died of having panicked twice or taken two
// workers with it: asking for it again does not open it, or each who asks would cost
// the pool two more.
func (r Record) Quarantined() bool {
	return r.State == Dead && r.Poisoned >= maxPoison
}

// Failure is why an attempt failed: an error that went over the wire. It is one
// itself, of the same kind.
type Failure struct {
	Class   ErrorClass `json:"class"`
	Kind    ErrorKind  `json:"kind,omitempty"` // none: of a version that did not store it
	Message string     `json:"message"`
}

// DecodeRecord reads a stored record. What it returns is well formed.
func DecodeRecord(b []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return Record{}, fmt.Errorf("decode record: %w", err)
	}
	if _, err := ParseID(string(r.ID)); err != nil {
		return Record{}, err
	}
	if !slices.Contains(States, r.State) {
		return Record{}, fmt.Errorf("record %s: unknown state %q", r.ID, r.State)
	}
	if r.Priority == "" { // of an earlier version
		r.Priority, r.Direct = Bulk, true
	}
	if r.Tenant == "" {
		r.Tenant = DefaultTenant
	}
	if _, err := ParsePriority(string(r.Priority)); err != nil {
		return Record{}, fmt.Errorf("record %s: %w", r.ID, err)
	}
	if r.Class.Kind == "" {
		return Record{}, fmt.Errorf("record %s: no class", r.ID)
	}
	if r.Attempt < 0 || r.MaxAttempts < 1 || r.Poisoned < 0 || r.Generation < 1 {
		return Record{}, fmt.Errorf("record %s: attempt %d of %d, %d poisoned, generation %d", r.ID, r.Attempt, r.MaxAttempts, r.Poisoned, r.Generation)
	}
	return r, nil
}
