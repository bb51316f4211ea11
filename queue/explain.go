package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lithify/lithify/jobs"
)

// Explanation says why a job is where it is, from what the pool knows.
type Explanation struct {
	ID      jobs.ID    `json:"id"`
	State   jobs.State `json:"state"`
	Reasons []Reason   `json:"reasons"` // the most telling first
}

// Reason is one of them.
type Reason struct {
	Code ReasonCode `json:"code"`
	Text string     `json:"text"` // a sentence for people
}

// ReasonCode is a word for programs.
type ReasonCode string

const (
	ReasonEnded       ReasonCode = "ended"        // it has a result, or failed for good
	ReasonRunning     ReasonCode = "running"      // a worker has it
	ReasonSilent      ReasonCode = "silent"       // the worker that has it does not say so any more
	ReasonRetry       ReasonCode = "retry"        // an attempt failed, and the next is not due
	ReasonChildren    ReasonCode = "children"     // it waits for other jobs
	ReasonNoScheduler ReasonCode = "no_scheduler" // nobody admits jobs
	ReasonNoWorker    ReasonCode = "no_worker"    // no worker serves its class
	ReasonDraining    ReasonCode = "draining"     // those that do take no more jobs
	ReasonBusy        ReasonCode = "busy"         // all their slots are taken
	ReasonWindow      ReasonCode = "window"       // enough of its class are admitted
	ReasonDelayed     ReasonCode = "delayed"      // it was submitted for a later time
	ReasonPaused      ReasonCode = "paused"       // somebody paused it, or all like it
	ReasonTenant      ReasonCode = "tenant"       // enough of its tenant's are in flight
	ReasonRegistry    ReasonCode = "registry"     // enough is asked of a registry that it names
	ReasonUnknown     ReasonCode = "unknown"      // the scheduler could not find out
	ReasonDue         ReasonCode = "due"          // nothing keeps it: it is about to start
)

// explainSubject is where the scheduler that leads answers. It is no queue group:
// one that has stopped and still counts as a subscriber must not be the one asked.
const (
	explainSubject = "pool.explain"
	explainTimeout = 5 * time.Second
)

// Explain asks the pool why a job is not running, or that it is. An unknown job is
// errdefs.ErrNotFound.
func (c *Client) Explain(ctx context.Context, id jobs.ID) (Explanation, error) {
	st, err := c.Get(ctx, id)
	if err != nil {
		return Explanation{}, err
	}
	x := Explanation{ID: id, State: st.State}
	if st.State.Ended() {
		x.Reasons = []Reason{{ReasonEnded, ended(st)}}
		return x, nil
	}
	asker := ctx
	ctx, cancel := context.WithTimeout(asker, explainTimeout)
	defer cancel()
	m, err := c.nc.RequestWithContext(ctx, explainSubject, []byte(id))
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded) && asker.Err() == nil {
		why, err := c.unled(asker)
		x.Reasons = []Reason{why}
		return x, err
	}
	if err != nil {
		return x, fmt.Errorf("explain job %s: %w", id, err)
	}
	var told Explanation
	if err := json.Unmarshal(m.Data, &told); err != nil {
		return x, fmt.Errorf("explain job %s: %w", id, err)
	}
	if told.State != "" { // else it is new to the scheduler
		x.State = told.State
	}
	x.Reasons = told.Reasons
	return x, nil
}

func ended(st Status) string {
	s := fmt.Sprintf("it is %s since %s", st.State, st.Updated.Format(time.RFC3339))
	switch {
	case st.State == jobs.Done:
		return s
	case st.Reason != "":
		return s + ": " + st.Reason
	case st.Failure != nil:
		return s + ": " + st.Failure.Message
	}
	return s
}

// ServeExplain answers Explain by what explain gives until stop. explain is called
// from one goroutine at a time.
func (c *Client) ServeExplain(explain func(jobs.ID) Explanation) (stop func(), err error) {
	sub, err := c.nc.Subscribe(explainSubject, func(m *nats.Msg) {
		b, err := json.Marshal(explain(jobs.ID(m.Data)))
		if err == nil {
			err = m.Respond(b)
		}
		if err != nil {
			c.log.Debug("explanation not sent", "error", err)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("serve explanations: %w", err)
	}
	return func() { sub.Unsubscribe() }, nil
}
