package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lithify/lithify/jobs"
)

// Node is what a worker says of itself.
type Node struct {
	Name     string       `json:"name"`
	Host     string       `json:"host"`
	Node     string       `json:"node,omitempty"` // the machine, as jobs name it that are bound to it
	Labels   Labels       `json:"labels,omitempty"`
	PID      int          `json:"pid"`
	Version  string       `json:"version"`
	OS       string       `json:"os"`
	Arch     string       `json:"arch"`
	Slots    int          `json:"slots"`
	Classes  []jobs.Class `json:"classes"`
	Running  []RunningJob `json:"running"`
	Draining bool         `json:"draining,omitempty"`
	Left     bool         `json:"left,omitempty"` // it ended in good order, and is not on the list
	Started  time.Time    `json:"started"`
	Updated  time.Time    `json:"updated"`
}

// RunningJob is a job a worker holds a claim on.
type RunningJob struct {
	ID    jobs.ID   `json:"id"`
	Claim uint64    `json:"claim"`
	Since time.Time `json:"since"`
}

const (
	nodeTTL = 30 * time.Second
	// leftTTL is how long it is known of a worker that it ended in good order: longer
	// than a silence is doubted.
	leftTTL = 15 * time.Minute
	// NodeRenewal lets two renewals be lost before a worker is gone from the list.
	NodeRenewal = nodeTTL / 3
	nodePrefix  = "$KV." + bucketNodes + "."
	streamNodes = "KV_" + bucketNodes
)

// setupNodes makes the bucket in which each worker has a key. A bucket that tells when
// a key runs out takes roll-ups, and with one of these a worker could take all others
// off the list: this one does not tell, and one of an earlier version is changed.
func (c *Client) setupNodes(ctx context.Context, replicas int) error {
	_, err := c.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: streamNodes, Subjects: []string{nodePrefix + ">"}, Replicas: replicas, MaxMsgsPerSubject: 1, AllowMsgTTL: true,
		Discard: jetstream.DiscardNew, AllowDirect: true, DenyDelete: true, MaxConsumers: maxConsumers,
	})
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		var s jetstream.Stream
		if s, err = c.js.Stream(ctx, streamNodes); err == nil && s.CachedInfo().Config.AllowRollup {
			cfg := s.CachedInfo().Config
			cfg.AllowRollup, cfg.SubjectDeleteMarkerTTL = false, 0
			_, err = c.js.UpdateStream(ctx, cfg)
		}
	}
	if err != nil {
		return fmt.Errorf("create bucket %s: %w", bucketNodes, err)
	}
	return nil
}

// Announce says that a worker is here; it is forgotten 30 seconds later unless
// said again. It publishes by itself because a KV update drops the key's TTL.
func (c *Client) Announce(ctx context.Context, n Node) error {
	if err := c.putNode(ctx, n, nodeTTL); err != nil {
		return fmt.Errorf("announce worker %s: %w", n.Name, err)
	}
	return nil
}

// Withdraw takes a worker off the list at once. Of what it runs no more, it did not die.
func (c *Client) Withdraw(ctx context.Context, n Node) error {
	n.Left, n.Slots, n.Classes = true, 0, nil
	if err := c.putNode(ctx, n, leftTTL); err != nil {
		return fmt.Errorf("withdraw worker %s: %w", n.Name, err)
	}
	return nil
}

func (c *Client) putNode(ctx context.Context, n Node, ttl time.Duration) error {
	n.Updated = time.Now().UTC()
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	_, err = c.js.Publish(ctx, nodePrefix+n.Name, b, jetstream.WithMsgTTL(ttl))
	return err
}

// Workers lists the workers that are here now, by name.
func (c *Client) Workers(ctx context.Context) ([]Node, error) {
	// Not as a stream is followed: a word that runs out would be waited for.
	subjects, err := c.subjects(ctx, streamNodes, ">")
	if err != nil {
		return nil, fmt.Errorf("list workers: %w", err)
	}
	nodes := []Node{}
	for part := range slices.Chunk(subjects, listBatch) {
		msgs, err := c.last(ctx, streamNodes, part...)
		if err != nil {
			return nil, fmt.Errorf("list workers: %w", err)
		}
		for subject, m := range msgs {
			if len(m.Data) == 0 { // it withdrew
				continue
			}
			if n, err := decodeNode(m.Data); err != nil {
				c.log.Warn("unreadable worker entry", "subject", subject, "error", err)
			} else if !n.Left {
				nodes = append(nodes, n)
			}
		}
	}
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	return nodes, nil
}

// Named gives those of the named workers that are here now, or left a while ago.
func (c *Client) Named(ctx context.Context, names ...string) (map[string]Node, error) {
	subjects := make([]string, len(names))
	for i, name := range names {
		subjects[i] = nodePrefix + name
	}
	msgs, err := c.last(ctx, streamNodes, subjects...)
	if err != nil {
		return nil, fmt.Errorf("look up workers %v: %w", names, err)
	}
	nodes := map[string]Node{}
	for _, m := range msgs {
		if len(m.Data) == 0 { // it withdrew
			continue
		}
		n, err := decodeNode(m.Data)
		if err != nil {
			return nil, err
		}
		nodes[n.Name] = n
	}
	return nodes, nil
}

// Survived reports whether a worker did not die of a job that it lost by a silence: it
// was heard of since, without the job, or ended in good order.
func (n Node) Survived(s jobs.Silence, id jobs.ID) bool {
	return n.Started.Before(s.Claimed) && (n.Updated.After(s.Lost) || n.Left) &&
		!slices.ContainsFunc(n.Running, func(j RunningJob) bool { return j.ID == id })
}

// NodeChange is a worker that came or spoke again, or one that left.
type NodeChange struct {
	Name string
	Node Node
	Gone bool
}

// WatchWorkers gives the workers that are here and then each change, until ctx
// is done. That a worker fell silent is no change: only Workers knows.
func (c *Client) WatchWorkers(ctx context.Context) iter.Seq2[NodeChange, error] {
	return func(yield func(NodeChange, error) bool) {
		for m, err := range c.Follow(ctx, streamNodes, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy}) {
			if err != nil {
				yield(NodeChange{}, err)
				return
			}
			ch := NodeChange{Name: strings.TrimPrefix(m.Subject(), nodePrefix)}
			if len(m.Data()) == 0 {
				ch.Gone = true
			} else if ch.Node, err = decodeNode(m.Data()); err != nil {
				c.log.Warn("unreadable worker entry", "key", ch.Name, "error", err)
				continue
			}
			ch.Gone = ch.Gone || ch.Node.Left
			if !yield(ch, nil) {
				return
			}
		}
	}
}

func decodeNode(b []byte) (Node, error) {
	var n Node
	if err := json.Unmarshal(b, &n); err != nil {
		return Node{}, fmt.Errorf("decode worker: %w", err)
	}
	return n, nil
}
