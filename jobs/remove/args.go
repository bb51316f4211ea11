// Package remove is the job kind that removes a container that a restore job has made.
package remove

import (
	"errors"
	"fmt"

	"github.com/lithify/lithify/jobs"
)

// Kind names the job kind.
const Kind = "remove"

// Args say which container to remove.
type Args struct {
	Name string `json:"name"` // of the container
	// Job is the restore job that has made it. Another's container of the same name is
	// left alone.
	Job jobs.ID `json:"job"`
	// Node is the machine that has it, by the name that its worker gives it.
	Node string `json:"node"`
	// Namespace is containerd's; default stack.DefaultNamespace.
	Namespace string `json:"namespace,omitempty"`
	Why       string `json:"why,omitempty"` // for people
}

// Kind implements jobs.Args.
func (Args) Kind() string { return Kind }

// BoundTo implements jobs.Bound.
func (a Args) BoundTo() string { return a.Node }

// String is the job in a few words.
func (a Args) String() string { return "remove " + a.Name + " from " + a.Node }

// Validate implements jobs.Args.
func (a Args) Validate() error {
	if a.Name == "" {
		return errors.New("a container is required")
	}
	if _, err := jobs.ParseID(string(a.Job)); err != nil {
		return fmt.Errorf("the job that has made it: %w", err)
	}
	return nil
}

// References implements jobs.Referring.
func (Args) References() (reads, writes []string) { return nil, nil }
