// Package prune is the job kind that removes checkpoints from a repository that are kept for
// long enough.
package prune

import (
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/lithify/lithify/jobs/convert"
	"github.com/lithify/lithify/jobs/layer"
)

// Kind names the job kind.
const Kind = "prune"

// Args say of which repository, and what stays: package restore/retain. They hold no secrets.
type Args struct {
	Repository string        `json:"repository"` // of a registry, without a tag
	Keep       int           `json:"keep,omitempty"`
	OlderThan  time.Duration `json:"olderThan,omitempty"`
	Except     []string      `json:"except,omitempty"` // patterns of tags
	// Delete removes what does not stay. Without it the job looks, and says how much that is.
	Delete bool `json:"delete,omitempty"`

	Insecure bool `json:"insecure,omitempty"`
}

// Kind implements jobs.Args.
func (Args) Kind() string { return Kind }

// String is the job in a few words.
func (a Args) String() string { return "prune " + a.Repository }

// Validate implements jobs.Args.
func (a Args) Validate() error {
	if convert.IsFile(a.Repository) {
		return fmt.Errorf("%s is no repository of a registry", a.Repository)
	}
	if err := (convert.Output{Target: a.Repository}).Validate(); err != nil {
		return fmt.Errorf("prune: %w", err)
	}
	if a.Keep < 0 || a.OlderThan < 0 {
		return errors.New("a number is below zero")
	}
	if a.Keep == 0 && a.OlderThan == 0 {
		return errors.New("it is not said what stays: how many, or how long")
	}
	for _, pattern := range a.Except {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("pattern %q: %w", pattern, err)
		}
	}
	return nil
}

// Hosts are the registries that the job talks to.
func (a Args) Hosts() []string { return layer.RegistryHosts(a.Repository) }

// References implements jobs.Referring.
func (a Args) References() (reads, writes []string) { return nil, []string{a.Repository} }
