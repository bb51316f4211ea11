// Package rollout is the job kind that restores a checkpoint as many containers on many
// nodes, in waves.
package rollout

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/restore"
)

// Kind names the job kind.
const Kind = "rollout"

// Args say what to restore, where and how fast. Restore says it for one container: its name
// is that of all of them, and each has "-1", "-2" and so on behind it; so has its hostname. Its
// node and which clone it is stay empty.
type Args struct {
	Restore  restore.Args `json:"restore"`
	Nodes    []string     `json:"nodes"`              // one wave goes through them in turn
	Replicas int          `json:"replicas,omitempty"` // in all; default one for each node

	Canary int `json:"canary,omitempty"` // containers of the first wave; default that of the others
	Wave   int `json:"wave,omitempty"`   // containers at a time; default all
	// MaxFailed is how many containers may fail before the rollout is given up.
	MaxFailed int `json:"maxFailed,omitempty"`
	// Timeout is how long each container may take, the wait for its node included; default
	// DefaultTimeout.
	Timeout time.Duration `json:"timeout,omitempty"`
	// Keep leaves what has been restored where it is when the rollout is given up; else
	// it is removed.
	Keep bool `json:"keep,omitempty"`
}

// DefaultTimeout bounds one container: a node that is gone is waited for no longer.
const DefaultTimeout = 15 * time.Minute

// MaxWaves is how many waves there may be: one for each time that a job may wait, but for the
// last, which is for what is taken back.
const MaxWaves = jobs.MaxWaits - 1

// Kind implements jobs.Args.
func (Args) Kind() string { return Kind }

// String is the job in a few words.
func (a Args) String() string {
	return fmt.Sprintf("roll %s out as %d containers on %d nodes", a.Restore.Source, a.total(), len(a.Nodes))
}

func (a Args) total() int {
	if a.Replicas == 0 {
		return len(a.Nodes)
	}
	return a.Replicas
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
	case min(a.Replicas, a.Canary, a.Wave, a.MaxFailed) < 0 || a.Timeout < 0:
		return errors.New("a number is below zero")
	case a.total() > jobs.MaxChildren:
		return fmt.Errorf("%d containers are too many for one rollout (the limit is %d)", a.total(), jobs.MaxChildren)
	case len(a.Waves()) > MaxWaves:
		return fmt.Errorf("%d waves are too many (the limit is %d): make them larger", len(a.Waves()), MaxWaves)
	}
	for _, wave := range a.Waves() { // a name may get too long with the number behind it
		for _, one := range wave {
			if err := one.Validate(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Waves are the containers, wave by wave. Whoever asks gets the same.
func (a Args) Waves() (waves [][]restore.Args) {
	size := a.Wave
	if size == 0 {
		size = a.total()
	}
	var all []restore.Args
	for i := range a.total() {
		one := a.Restore
		one.Node = a.Nodes[i%len(a.Nodes)]
		one.Name = fmt.Sprintf("%s-%d", a.Restore.Name, i+1)
		one.Clone = fmt.Sprintf("%d/%d", i+1, a.total())
		if a.Restore.Hostname != "" {
			one.Hostname = fmt.Sprintf("%s-%d", a.Restore.Hostname, i+1)
		}
		all = append(all, one)
	}
	if a.Canary > 0 {
		n := min(a.Canary, len(all))
		waves, all = append(waves, all[:n]), all[n:]
	}
	return slices.AppendSeq(waves, slices.Chunk(all, size))
}

// Hosts are the registries that the job talks to: none, its children do.
func (Args) Hosts() []string { return nil }

// References implements jobs.Referring.
func (a Args) References() (reads, writes []string) { return a.Restore.References() }
