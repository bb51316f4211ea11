package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lithify/lithify/queue/rate"
)

// Demand is what a worker tells of a host, and wants.
type Demand struct {
	Host string `json:"host"`
	Want int    `json:"want,omitempty"` // requests to send; with none nobody answers

	Sent []int `json:"sent,omitempty"` // since the last demand, by the second, the newest first

	Refused bool          `json:"refused,omitempty"` // the host had one too many
	Asked   time.Duration `json:"asked,omitempty"`   // and wants to be left alone for so long
}

// Shut says to all workers that a host is to be left alone.
type Shut struct {
	Host string        `json:"host"`
	For  time.Duration `json:"for"`
}

// leaseSubject is where the scheduler that leads answers demands; what is said on
// shutSubject is a hint that saves requests: a worker that does not hear it learns
// the same when it asks, or from the host.
const (
	leaseSubject = "pool.lease"
	shutSubject  = "pool.shut"
	// leaseTimeout bounds one question: a worker that has no answer decides alone.
	leaseTimeout = time.Second
)

// ServeLimits answers the demands of workers by what grant gives, until stop. grant
// is called from one goroutine at a time.
func (c *Client) ServeLimits(grant func(Demand) rate.Grant) (stop func(), err error) {
	sub, err := c.nc.Subscribe(leaseSubject, func(m *nats.Msg) {
		var d Demand
		if err := json.Unmarshal(m.Data, &d); err != nil {
			c.log.Debug("unreadable demand", "error", err)
			return
		}
		g := grant(d)
		if m.Reply == "" {
			return
		}
		b, err := json.Marshal(g)
		if err == nil {
			err = m.Respond(b)
		}
		if err != nil {
			c.log.Debug("demand not answered", "error", err)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("serve limits of hosts: %w", err)
	}
	return func() { sub.Unsubscribe() }, nil
}

// TellShut has all workers leave a host alone for a while.
func (c *Client) TellShut(s Shut) error { return c.tell(shutSubject, s) }

// tell publishes what nobody confirms.
func (c *Client) tell(subject string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.nc.Publish(subject, b)
}

// demand asks the scheduler.
func (c *Client) demand(ctx context.Context, d Demand) (g rate.Grant, err error) {
	b, err := json.Marshal(d)
	if err != nil {
		return g, err
	}
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	m, err := c.nc.RequestWithContext(ctx, leaseSubject, b)
	if err != nil {
		return g, err
	}
	return g, json.Unmarshal(m.Data, &g)
}
