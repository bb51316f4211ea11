package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/containerd/errdefs"
	"github.com/nats-io/nats.go/jetstream"
)

// Controls are what people have decided for a pool. They are one document, changed
// by compare-and-set.
type Controls struct {
	Tenants    map[string]Tenant   `json:"tenants,omitempty"`    // by name
	Registries map[string]Registry `json:"registries,omitempty"` // by host[:port]
	Pauses     []Pause             `json:"pauses,omitempty"`
	Jobs       []JobPause          `json:"jobs,omitempty"` // that are paused, each by itself
}

// Tenant is how much of a pool somebody gets.
type Tenant struct {
	Weight      int `json:"weight,omitempty"`        // jobs admitted in a turn; 0 is 1
	MaxInFlight int `json:"max_in_flight,omitempty"` // jobs admitted or running; 0: no limit
}

// Registry is how much a registry is burdened.
type Registry struct {
	Concurrency int     `json:"concurrency,omitempty"` // jobs in flight that name it; 0: no limit
	Rate        float64 `json:"rate,omitempty"`        // requests a second of the whole pool; 0: no limit
	Burst       int     `json:"burst,omitempty"`       // requests at once; 0: a second's worth
}

// Selector is what a pause holds: the jobs of a kind, a tenant or a registry. The zero
// value is all jobs.
type Selector struct {
	Kind     string `json:"kind,omitempty"`
	Tenant   string `json:"tenant,omitempty"`
	Registry string `json:"registry,omitempty"`
}

// String is the selector in words.
func (s Selector) String() string {
	switch {
	case s.Kind != "":
		return "kind " + s.Kind
	case s.Tenant != "":
		return "tenant " + s.Tenant
	case s.Registry != "":
		return "registry " + s.Registry
	}
	return "the whole pool"
}

// Pause keeps jobs from being started. Those that run go on.
type Pause struct {
	Selector
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
}

const (
	bucketControls = "controls"
	keyControls    = "all"
	// controlTries lets many decide at the same time: of those who write at once one succeeds.
	controlTries = 100
)

// Controls reads what has been decided.
func (c *Client) Controls(ctx context.Context) (Controls, error) {
	ctl, _, err := c.controls(ctx)
	return ctl, err
}

func (c *Client) controls(ctx context.Context) (ctl Controls, revision uint64, _ error) {
	kv, err := c.js.KeyValue(ctx, bucketControls)
	if err != nil {
		return ctl, 0, fmt.Errorf("read controls: %w", err)
	}
	e, err := kv.Get(ctx, keyControls)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return ctl, 0, nil
	}
	if err != nil {
		return ctl, 0, fmt.Errorf("read controls: %w", err)
	}
	ctl, err = decodeControls(e.Value())
	return ctl, e.Revision(), err
}

func decodeControls(b []byte) (ctl Controls, err error) {
	if err = json.Unmarshal(b, &ctl); err != nil {
		err = fmt.Errorf("decode controls: %w", err)
	}
	return ctl, err
}

// Control changes what has been decided. change is called with what it is now, again
// if somebody else changed it meanwhile; if it returns an error nothing is changed.
func (c *Client) Control(ctx context.Context, change func(*Controls) error) error {
	kv, err := c.js.KeyValue(ctx, bucketControls)
	if err != nil {
		return fmt.Errorf("change controls: %w", err)
	}
	for range controlTries {
		ctl, revision, err := c.controls(ctx)
		if err == nil {
			err = change(&ctl)
		}
		if err != nil {
			return err
		}
		b, err := json.Marshal(ctl)
		if err != nil {
			return err
		}
		if revision == 0 {
			_, err = kv.Create(ctx, keyControls, b)
		} else {
			_, err = kv.Update(ctx, keyControls, b, revision)
		}
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, jetstream.ErrKeyExists) && !errdefs.IsConflict(refused(err)):
			return fmt.Errorf("change controls: %w", err)
		}
	}
	return fmt.Errorf("change controls: others change them all the time: %w", errdefs.ErrAborted)
}

// WatchControls gives what is decided and then each change, until ctx is done.
func (c *Client) WatchControls(ctx context.Context) iter.Seq2[Controls, error] {
	return func(yield func(Controls, error) bool) {
		for m, err := range c.Follow(ctx, "KV_"+bucketControls, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy}) {
			var ctl Controls
			if err == nil && len(m.Data()) > 0 { // else they were deleted: nothing is decided
				if ctl, err = decodeControls(m.Data()); err != nil {
					c.log.Error("unreadable controls", "error", err)
					continue
				}
			}
			if !yield(ctl, err) || err != nil {
				return
			}
		}
	}
}
