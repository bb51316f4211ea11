package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Scheduler is what a scheduler says of itself.
type Scheduler struct {
	Name    string    `json:"name"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	Leads   bool      `json:"leads"` // the others stand by
}

// The bucket holds each scheduler under a key of its own, and under leaseKey the
// name of the one that leads.
const (
	bucketSchedulers = "schedulers"
	leaseKey         = "leader"
	schedulerPrefix  = "at."
)

func schedulerSubject(key string) string { return "$KV." + bucketSchedulers + "." + key }

// setupSchedulers makes the bucket. It is in memory: what it says is true for
// seconds, and the lease of a pool that was stopped as a whole holds up no start.
func (c *Client) setupSchedulers(ctx context.Context, replicas int) error {
	_, err := c.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucketSchedulers, Replicas: replicas,
		Storage: jetstream.MemoryStorage, LimitMarkerTTL: nodeTTL})
	if err != nil && !errors.Is(err, jetstream.ErrBucketExists) {
		return fmt.Errorf("create bucket %s: %w", bucketSchedulers, err)
	}
	return nil
}

// Schedulers lists the schedulers that are here now, by name.
func (c *Client) Schedulers(ctx context.Context) ([]Scheduler, error) {
	found := []Scheduler{}
	subjects, err := c.subjects(ctx, "KV_"+bucketSchedulers, ">")
	if errors.Is(err, jetstream.ErrStreamNotFound) || err == nil && len(subjects) == 0 {
		return found, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list schedulers: %w", err)
	}
	msgs, err := c.last(ctx, "KV_"+bucketSchedulers, subjects...)
	if err != nil {
		return nil, fmt.Errorf("list schedulers: %w", err)
	}
	leader := ""
	if m := msgs[schedulerSubject(leaseKey)]; m != nil {
		leader = string(m.Data)
	}
	for subject, m := range msgs {
		if !strings.HasPrefix(subject, schedulerSubject(schedulerPrefix)) || len(m.Data) == 0 {
			continue
		}
		var s Scheduler
		if err := json.Unmarshal(m.Data, &s); err != nil {
			c.log.Warn("unreadable scheduler entry", "subject", subject, "error", err)
			continue
		}
		s.Leads = s.Name == leader
		found = append(found, s)
	}
	slices.SortFunc(found, func(a, b Scheduler) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// unled says why nobody answers for the pool.
func (c *Client) unled(ctx context.Context) (Reason, error) {
	found, err := c.Schedulers(ctx)
	if err != nil {
		return Reason{}, err
	}
	var names []string
	for _, s := range found {
		if s.Leads {
			return Reason{ReasonNoScheduler, fmt.Sprintf("scheduler %s leads the pool and does not answer: another takes over within seconds, if there is one", s.Name)}, nil
		}
		names = append(names, s.Name)
	}
	if len(names) > 0 {
		return Reason{ReasonNoScheduler, fmt.Sprintf("no scheduler leads the pool yet: %s stands by and is about to", strings.Join(names, ", "))}, nil
	}
	return Reason{ReasonNoScheduler, "no scheduler is running: start lithify-scheduler, or lithify serve"}, nil
}
