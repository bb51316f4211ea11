// Package commit is the job kind that makes an image of a container.
package commit

import (
	"fmt"
	"time"

	"github.com/lithify/lithify/jobs/convert"
	"github.com/lithify/lithify/jobs/layer"
)

// Kind names the job kind.
const Kind = "commit"

// Args say which container to commit and what is made of it. They hold no secrets.
type Args struct {
	Container string `json:"container"` // as package convert/stack finds one
	// Node is the machine that has the container, by the name that its worker gives it.
	// A job needs it.
	Node string `json:"node,omitempty"`
	// Namespace is containerd's; default stack.DefaultNamespace.
	Namespace string `json:"namespace,omitempty"`

	Message     string    `json:"message,omitempty"`
	Author      string    `json:"author,omitempty"`
	Changes     []string  `json:"changes,omitempty"` // Dockerfile instructions
	Compression string    `json:"compression,omitempty"`
	Exclude     []string  `json:"exclude,omitempty"`
	Running     bool      `json:"running,omitempty"` // is not paused
	Epoch       time.Time `json:"epoch,omitzero"`    // SOURCE_DATE_EPOCH

	convert.Output
}

// Kind implements jobs.Args.
func (Args) Kind() string { return Kind }

// BoundTo implements jobs.Bound.
func (a Args) BoundTo() string { return a.Node }

// String is the job in a few words.
func (a Args) String() string {
	on := ""
	if a.Node != "" {
		on = " of " + a.Node
	}
	return "commit " + a.Container + on + " to " + a.Target
}

// Validate implements jobs.Args. It looks at the words alone and asks nobody.
func (a Args) Validate() error {
	switch {
	case a.Container == "":
		return fmt.Errorf("a container is required")
	case !a.Epoch.IsZero() && a.Epoch.Unix() < 0:
		return fmt.Errorf("the epoch %v lies before 1970", a.Epoch)
	}
	if err := convert.OneOf("compression", a.Compression, "gzip", "zstd", "none"); err != nil {
		return err
	}
	return a.Output.Validate()
}

// Hosts are the registries that the job talks to.
func (a Args) Hosts() []string {
	if convert.IsFile(a.Target) {
		return nil
	}
	return layer.RegistryHosts(a.Target)
}

// References implements jobs.Referring.
func (a Args) References() (reads, writes []string) { return nil, a.Output.Writes() }
