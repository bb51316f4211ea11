// Package rollout is the job kind that restores a checkpoint, or a set of them, as many
// replicas on many nodes, in waves.
package rollout

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/restore"
)

// Kind names the job kind.
const Kind = "rollout"

// Args say what to restore, where and how fast. Restore says it for one replica: its name
// is that of all of them, and each has "-1", "-2" and so on behind it; so has its hostname. Its
// node and which clone it is stay empty.
type Args struct {
	Restore restore.Args `json:"restore"`
	// Set are the checkpoints of Restore's source, if that is a set: a replica is a
	// container of each, on one node, and has failed if one of these has.
	Set      []Member `json:"set,omitempty"`
	Nodes    []string `json:"nodes"`              // one wave goes through them in turn
	Replicas int      `json:"replicas,omitempty"` // in all; default one for each node

	Canary int `json:"canary,omitempty"` // replicas of the first wave; default that of the others
	Wave   int `json:"wave,omitempty"`   // replicas at a time; default all
	// MaxFailed is how many replicas may fail before the rollout is given up. MinHealthy
	// says the same by how many have to run in the end.
	MaxFailed  int `json:"maxFailed,omitempty"`
	MinHealthy int `json:"minHealthy,omitempty"`
	// MaxUnavailable is how many replicas may be begun and not run at one time: those of a
	// wave, and those that have failed. The more have failed, the smaller are the waves.
	MaxUnavailable int `json:"maxUnavailable,omitempty"`
	// Timeout is how long each container may take, the wait for its node included; default
	// DefaultTimeout.
	Timeout time.Duration `json:"timeout,omitempty"`
	// Keep leaves what has been restored where it is when the rollout is given up; else
	// it is removed.
	Keep bool `json:"keep,omitempty"`
}

// Member is a checkpoint of a set.
type Member struct {
	Container  string        `json:"container"`
	Checkpoint digest.Digest `json:"checkpoint"`
}

// DefaultTimeout bounds one container: a node that is gone is waited for no longer.
const DefaultTimeout = 15 * time.Minute

// MaxWaves is how many waves there may be: one for each time that a job may wait, but for
// two that are for what is taken back.
const MaxWaves = jobs.MaxWaits - 2

// Kind implements jobs.Args.
func (Args) Kind() string { return Kind }

// String is the job in a few words.
func (a Args) String() string {
	what := "containers"
	if len(a.Set) > 0 {
		what = fmt.Sprintf("replicas of %d containers", len(a.Set))
	}
	return fmt.Sprintf("roll %s out as %d %s on %d nodes", a.Restore.Source, a.Total(), what, len(a.Nodes))
}

// Total is how many replicas are wanted.
func (a Args) Total() int {
	if a.Replicas == 0 {
		return len(a.Nodes)
	}
	return a.Replicas
}

// MayFail is how many replicas may fail.
func (a Args) MayFail() int {
	if a.MinHealthy > 0 {
		return a.Total() - a.MinHealthy
	}
	return a.MaxFailed
}

// Validate implements jobs.Args.
func (a Args) Validate() error {
	if err := a.Restore.Validate(); err != nil {
		return err
	}
	switch {
	case len(a.Nodes) == 0 || slices.Contains(a.Nodes, ""):
		return errors.New("the nodes are required, and each has a name")
	case a.Restore.Node != "":
		return errors.New("a rollout is bound to no node: name the nodes")
	case min(a.Replicas, a.Canary, a.Wave, a.MaxFailed, a.MinHealthy, a.MaxUnavailable) < 0 || a.Timeout < 0:
		return errors.New("a number is below zero")
	case a.MaxFailed > 0 && a.MinHealthy > 0:
		return errors.New("how many may fail and how many have to run say the same: give one")
	case a.MinHealthy > a.Total():
		return fmt.Errorf("%d replicas cannot run of %d", a.MinHealthy, a.Total())
	case a.MaxUnavailable > 0 && a.MaxUnavailable <= a.MayFail():
		return fmt.Errorf("%d replicas may fail: with no more than %d unavailable there would be no next wave", a.MayFail(), a.MaxUnavailable)
	case a.Restore.Check != nil && a.Restore.Check.Container != "" && !slices.ContainsFunc(a.Set, func(m Member) bool { return m.Container == a.Restore.Check.Container }):
		return fmt.Errorf("the check is of container %s, which the set has not", a.Restore.Check.Container)
	case a.Restore.Check.Took() >= cmp.Or(a.Timeout, DefaultTimeout):
		return fmt.Errorf("a container may take %v, and until its check has succeeded %v: let it take longer", cmp.Or(a.Timeout, DefaultTimeout), a.Restore.Check.Took())
	case a.Total() > jobs.MaxChildren/max(len(a.Set), 1): // the product may be more than an int
		return fmt.Errorf("%d replicas of %d containers are too many for one rollout (the limit is %d containers)", a.Total(), max(len(a.Set), 1), jobs.MaxChildren)
	}
	if n := a.waves(); n > MaxWaves {
		return fmt.Errorf("%d waves are too many (the limit is %d): make them larger", n, MaxWaves)
	}
	for _, r := range a.All() { // a name may get too long with the number behind it
		for _, one := range r.Containers {
			if err := one.Validate(); err != nil {
				return err
			}
		}
	}
	return nil
}

// waves is how many there are at most.
func (a Args) waves() (n int) {
	for begun := 0; begun < a.Total(); n++ {
		begun += a.Next(begun, a.MayFail())
	}
	return n
}

// Next is how many replicas the next wave has, once so many are begun and so many of these
// have failed.
func (a Args) Next(begun, failed int) int {
	n := a.Total() - begun
	if a.Wave > 0 {
		n = min(n, a.Wave)
	}
	if begun == 0 && a.Canary > 0 {
		n = min(a.Total(), a.Canary)
	}
	if a.MaxUnavailable > 0 {
		n = min(n, a.MaxUnavailable-failed)
	}
	return n
}

// Replica is one of those that a rollout makes: a container, or one for each of a set.
type Replica struct {
	Name       string
	Node       string
	Containers []restore.Args
}

// All are the replicas, in the order in which they are begun. Whoever asks gets the same.
func (a Args) All() (all []Replica) {
	for i := range a.Total() {
		one := a.Restore
		one.Node = a.Nodes[i%len(a.Nodes)]
		one.Name = fmt.Sprintf("%s-%d", a.Restore.Name, i+1)
		one.Clone = fmt.Sprintf("%d/%d", i+1, a.Total())
		if a.Restore.Hostname != "" {
			one.Hostname = fmt.Sprintf("%s-%d", a.Restore.Hostname, i+1)
		}
		r := Replica{Name: one.Name, Node: one.Node, Containers: []restore.Args{one}}
		if len(a.Set) > 0 {
			r.Containers = nil
		}
		for _, m := range a.Set {
			r.Containers = append(r.Containers, one.Member(m.Container, m.Checkpoint))
		}
		all = append(all, r)
	}
	return all
}

// Hosts are the registries that the job talks to: none, its children do.
func (Args) Hosts() []string { return nil }

// References implements jobs.Referring.
func (a Args) References() (reads, writes []string) { return a.Restore.References() }

// Key is the idempotency key of the job that restores a container of a rollout.
func Key(rollout jobs.ID, container string) string { return string(rollout) + "/" + container }

// RestoreID is that job's ID.
func RestoreID(rollout jobs.ID, one restore.Args) (jobs.ID, error) {
	j, err := jobs.New(one, jobs.Options{IdempotencyKey: Key(rollout, one.Name)})
	return j.ID, err
}
