// Package restore is the job kind that makes a running container of a checkpoint image.
package restore

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/lithify/lithify/jobs/convert"
	"github.com/lithify/lithify/jobs/layer"
)

// Kind names the job kind.
const Kind = "restore"

// Args say what to restore, where and as what. They hold no secrets.
type Args struct {
	Source string `json:"source"` // reference, as package convert/registry opens it
	// SourceDigest pins the checkpoint to what it named when the job was submitted.
	SourceDigest digest.Digest `json:"sourceDigest,omitempty"`
	// Node is the machine to restore on, by the name that its worker gives it. A job
	// needs it.
	Node string `json:"node,omitempty"`
	// Namespace is containerd's; default stack.DefaultNamespace.
	Namespace string `json:"namespace,omitempty"`

	Name        string `json:"name"`                  // and ID of the new container
	Snapshotter string `json:"snapshotter,omitempty"` // default overlayfs
	Network     string `json:"network,omitempty"`     // none, cni or host; default none
	Hostname    string `json:"hostname,omitempty"`    // default what it was
	// What becomes of open TCP connections; by default the job fails if there are any.
	TCPClose       bool `json:"tcpClose,omitempty"`
	TCPEstablished bool `json:"tcpEstablished,omitempty"`

	Mounts   []Mount       `json:"mounts,omitempty"`
	Clone    string        `json:"clone,omitempty"`    // I/N of one of several
	Env      []string      `json:"env,omitempty"`      // NAME=VALUE, for its file of variables; whoever sees the job sees them
	Secrets  []string      `json:"secrets,omitempty"`  // IDs of files that the node has, for its secrets
	Refresh  string        `json:"refresh,omitempty"`  // script that is run in it
	Signal   string        `json:"signal,omitempty"`   // sent to its first process then
	Check    *Check        `json:"check,omitempty"`    // when it counts as restored; default once it runs
	Base     string        `json:"base,omitempty"`     // base image with its digest; default the checkpoint's
	Limit    time.Duration `json:"limit,omitempty"`    // of CRIU's own work
	Insecure bool          `json:"insecure,omitempty"` // plain HTTP
}

// Mount puts a file or directory of the node into the container.
type Mount struct {
	Source   string `json:"source"` // absolute paths
	Target   string `json:"target"`
	ReadOnly bool   `json:"readOnly,omitempty"`
}

// Kind implements jobs.Args.
func (Args) Kind() string { return Kind }

// Member are the args for a container of a set, whose checkpoint has this digest.
func (a Args) Member(container string, checkpoint digest.Digest) Args {
	a.Source, a.SourceDigest = convert.Unpinned(a.Source), checkpoint
	a.Name += "-" + container
	a.Check = a.Check.of(container)
	if a.Hostname != "" {
		a.Hostname += "-" + strings.ReplaceAll(container, "_", "-")
	}
	return a
}

// BoundTo implements jobs.Bound.
func (a Args) BoundTo() string { return a.Node }

// String is the job in a few words.
func (a Args) String() string {
	on := ""
	if a.Node != "" {
		on = " on " + a.Node
	}
	return "restore " + a.Source + on + " as " + a.Name
}

// name is what containerd takes for an ID.
var name = regexp.MustCompile(`^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$`)

// secretID is a file's name.
var secretID = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

// clone is one of several.
var clone = regexp.MustCompile(`^[1-9][0-9]*/[1-9][0-9]*$`)

// maxEnv bounds the variables: a job is a message.
const maxEnv = 64 << 10

// hostname is that of RFC 1123, for a hostname is what resolvers are asked.
var hostname = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$`)

// Validate implements jobs.Args. It looks at the words alone and asks nobody.
func (a Args) Validate() error {
	// A source is written as the source of a conversion, and refused for the same.
	if err := (convert.Args{Source: a.Source, SourceDigest: a.SourceDigest, Output: convert.Output{Target: "oci:x"}}).Validate(); err != nil {
		return err
	}
	switch {
	case a.Name == "":
		return errors.New("a name for the container is required")
	case len(a.Name) > 76 || !name.MatchString(a.Name):
		return fmt.Errorf("name %q: want at most 76 letters, digits, dots, dashes and underscores, as containerd does", a.Name)
	case a.Hostname != "" && !hostname.MatchString(a.Hostname):
		return fmt.Errorf("hostname %q: want letters, digits, dots and dashes", a.Hostname)
	case a.Base != "" && convert.Unpinned(a.Base) == a.Base:
		return fmt.Errorf("base %q has no digest: want NAME@DIGEST", a.Base)
	case a.TCPClose && a.TCPEstablished:
		return errors.New("TCP connections cannot be closed and go on")
	case a.Limit < 0:
		return fmt.Errorf("the limit %v is below zero", a.Limit)
	}
	for _, m := range a.Mounts {
		if !path.IsAbs(m.Source) || !path.IsAbs(m.Target) || path.Clean(m.Target) == "/" {
			return fmt.Errorf("mount %s:%s: want two absolute paths, and not the root", m.Source, m.Target)
		}
	}
	if err := errors.Join(a.checkIdentity(), a.Check.validate()); err != nil {
		return err
	}
	return convert.OneOf("network", a.Network, "none", "host", "cni")
}

// checkIdentity looks at what the container is told. Values of variables are not shown.
func (a Args) checkIdentity() error {
	if a.Clone != "" && !clone.MatchString(a.Clone) {
		return fmt.Errorf("clone %q: want I/N", a.Clone)
	}
	size := 0
	for i, v := range a.Env {
		if strings.Index(v, "=") < 1 || strings.ContainsAny(v, "\n\x00") {
			return fmt.Errorf("variable %d: want NAME=VALUE in one line", i+1)
		}
		size += len(v)
	}
	if size > maxEnv {
		return fmt.Errorf("the variables have %d bytes (the limit is %d)", size, maxEnv)
	}
	for i, id := range a.Secrets {
		if !secretID.MatchString(id) {
			return fmt.Errorf("secret %q: an ID is made of letters, digits, and any of _.-", id)
		}
		if slices.Contains(a.Secrets[:i], id) {
			return fmt.Errorf("secret %s is given twice", id)
		}
	}
	return nil
}

// Hosts are the registries that the job talks to, as far as the args tell.
func (a Args) Hosts() []string {
	refs := []string{}
	for _, ref := range []string{a.Source, convert.Unpinned(a.Base)} {
		if ref != "" && !convert.IsFile(ref) {
			refs = append(refs, ref)
		}
	}
	return layer.RegistryHosts(refs...)
}

// References implements jobs.Referring.
func (a Args) References() (reads, writes []string) {
	reads = []string{a.Source}
	if a.Base != "" {
		reads = append(reads, a.Base)
	}
	return reads, nil
}
