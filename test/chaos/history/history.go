// Package history holds what observers of a pool wrote down and says what in it
// breaks a promise of package queue. It is pure: logs in, complaints out. It reads
// records by itself and shares no code with what wrote them.
package history

import (
	"encoding/json"
	"fmt"
	"time"
)

// State is a job's, as it is on the wire.
type State string

// The states that promises speak of.
const (
	Running   State = "running"
	Done      State = "done"
	Failed    State = "failed"
	Dead      State = "dead"
	Cancelled State = "cancelled"
)

// Ended reports whether a job in this state stays in it unless somebody asks.
func (s State) Ended() bool { return s == Done || s == Failed || s == Dead || s == Cancelled }

// Record is what the promises need of a job's record.
type Record struct {
	ID         string          `json:"id"`
	State      State           `json:"state"`
	Generation int             `json:"generation"`
	Attempt    int             `json:"attempt"`
	Poisoned   int             `json:"poisoned"`
	Worker     string          `json:"worker"`
	Result     json.RawMessage `json:"result"`
	Failure    *struct {
		Class   string `json:"class"`
		Message string `json:"message"`
	} `json:"failure"`
	Reason string `json:"reason"`
}

// Version is a record as STATE had it.
type Version struct {
	Record
	Revision uint64
	Stored   time.Time // by the server
}

// Write is a record that a process sent to the server, taken or not.
type Write struct {
	At time.Time
	By string // the process
	Record
}

// Submission is one that returned without an error.
type Submission struct {
	ID         string
	Generation int
	At         time.Time
	Want       State // how the job ends if nobody cancels it and nothing kills its workers
}

// Cancel is one that returned without an error.
type Cancel struct {
	ID         string
	Generation int
	At         time.Time
}

// Line is what a handler wrote into the diary that all workers share.
type Line struct {
	At     time.Time
	Event  Event
	Exec   string // one call of a handler
	ID     string
	Worker string
}

// Event is what a handler did.
type Event string

// A call of a handler begins, has its effect, and ends with a result, with jobs to
// wait for, or with an error.
const (
	Began   Event = "began"
	Effect  Event = "effect"
	Ended   Event = "ended"
	Awaited Event = "awaited"
	Erred   Event = "erred"
)

// Fault is one thing that was done to the pool.
type Fault struct {
	Kind   Kind
	Victim string // a process: of a worker, its slot
	From   time.Time
	Until  time.Time
}

// Kind is what a fault does.
type Kind string

// Faults. A stall is the machine's own.
const (
	Kill      Kind = "kill"
	Term      Kind = "term"
	Freeze    Kind = "freeze"
	Cut       Kind = "cut"
	Partition Kind = "partition"
	Deaf      Kind = "deaf" // the process hears nothing and is heard
	Mute      Kind = "mute" // the process is not heard and hears
	Slow      Kind = "slow"
	PowerCut  Kind = "power cut"
	Full      Kind = "full" // the disk is
	Stall     Kind = "stall"
)

func (f Fault) String() string {
	return fmt.Sprintf("%s %s %s for %v", f.From.Format("15:04:05.000"), f.Kind, f.Victim, f.Until.Sub(f.From).Round(time.Millisecond))
}

// Run is all that is known of one run.
type Run struct {
	Submissions []Submission
	Cancels     []Cancel
	Versions    []Version // as an observer saw them; it may have missed some
	Final       []Version // every record at the end
	Writes      []Write
	Diary       []Line
	Faults      []Fault
	Left        []string // subjects of messages in WORK at the end
}
