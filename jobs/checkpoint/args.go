// Package checkpoint is the job kind that makes a checkpoint image of a running container.
package checkpoint

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lithify/lithify/jobs/convert"
	"github.com/lithify/lithify/jobs/layer"
)

// Kind names the job kind.
const Kind = "checkpoint"

// Args say which container to checkpoint. They hold no secrets.
type Args struct {
	Container string `json:"container,omitempty"` // as package convert/stack finds one
	// Set are several, instead, whose checkpoints are of one instant and are published as
	// a set: package restore/set.
	Set []string `json:"set,omitempty"`
	// Node is the machine that has the container, by the name that its worker gives it.
	// A job needs it.
	Node string `json:"node,omitempty"`
	// Namespace is containerd's; default stack.DefaultNamespace.
	Namespace string `json:"namespace,omitempty"`

	Target string `json:"target"`          // reference, as package convert/registry creates it
	Stop   bool   `json:"stop,omitempty"`  // the container, once the image is published
	Split  bool   `json:"split,omitempty"` // memory in chunks
	// EncryptTo are the public keys, in PEM, of those who can read the checkpoint: package
	// restore/encrypt. None: everybody who can pull it.
	EncryptTo []string `json:"encryptTo,omitempty"`
	// TCPEstablished dumps open TCP connections, and FileLocks locks of files, too.
	TCPEstablished bool `json:"tcpEstablished,omitempty"`
	FileLocks      bool `json:"fileLocks,omitempty"`

	Insecure bool `json:"insecure,omitempty"`
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
	what := a.Container
	if len(a.Set) > 0 {
		what = strings.Join(a.Set, " and ")
	}
	return "checkpoint " + what + on + " to " + a.Target
}

// Validate implements jobs.Args. It looks at the words alone and asks nobody.
func (a Args) Validate() error {
	if (a.Container == "") == (len(a.Set) == 0) || slices.Contains(a.Set, "") {
		return errors.New("a container is required, or those of a set")
	}
	for _, key := range a.EncryptTo {
		// A private key would be stored with the job. restore/encrypt, which reads the key, the
		// scheduler does not link.
		if block, rest := pem.Decode([]byte(key)); block == nil || block.Type != "PUBLIC KEY" && block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 || strings.Count(key, "-----BEGIN ") != 1 {
			return errors.New("want a PEM file with one PUBLIC KEY or CERTIFICATE to encrypt to and nothing behind it, as of `openssl pkey -in KEY -pubout`")
		}
	}
	if err := (convert.Output{Target: a.Target}).Validate(); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// Hosts are the registries that the job talks to.
func (a Args) Hosts() []string {
	if convert.IsFile(a.Target) {
		return nil
	}
	return layer.RegistryHosts(a.Target)
}

// References implements jobs.Referring.
func (a Args) References() (reads, writes []string) { return nil, []string{a.Target} }
