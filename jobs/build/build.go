// Package build is the job kind that makes an image from a Dockerfile.
package build

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/containerd/platforms"

	"github.com/lithify/lithify/jobs/convert"
	"github.com/lithify/lithify/jobs/layer"
)

// Kind names the job kind.
const Kind = "build"

// Args say what to build. They hold no secrets: those are named by the IDs under which
// whoever builds has them.
type Args struct {
	Context    string            `json:"context"`              // as package build opens it
	Dockerfile string            `json:"dockerfile,omitempty"` // its path, or its name in a context that is no directory
	Stage      string            `json:"stage,omitempty"`      // default the last
	BuildArgs  map[string]string `json:"buildArgs,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Platforms  []string          `json:"platforms,omitempty"` // os/arch[/variant]; default the builder's
	NoCache    bool              `json:"noCache,omitempty"`
	Network    string            `json:"network,omitempty"` // of RUN: default or none
	Secrets    []string          `json:"secrets,omitempty"` // IDs
	SSH        []string          `json:"ssh,omitempty"`     // IDs

	// In buildctl's words.
	CacheFrom []string `json:"cacheFrom,omitempty"`
	CacheTo   []string `json:"cacheTo,omitempty"`
	Attest    []string `json:"attest,omitempty"`

	Compression string    `json:"compression,omitempty"`
	Epoch       time.Time `json:"epoch,omitzero"` // SOURCE_DATE_EPOCH

	convert.Output
}

// Kind implements jobs.Args.
func (Args) Kind() string { return Kind }

// String is the job in a few words.
func (a Args) String() string { return "build " + a.Context + " as " + a.Target }

var (
	secretID = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
	argName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)
)

// Validate implements jobs.Args. It looks at the words alone and asks nobody.
func (a Args) Validate() error {
	switch {
	case a.Context == "":
		return fmt.Errorf("a context is required")
	case convert.IsFile(a.Target):
		return fmt.Errorf("target %q: a build is pushed to a registry", a.Target)
	case !a.Epoch.IsZero() && a.Epoch.Unix() < 0:
		return fmt.Errorf("the epoch %v lies before 1970", a.Epoch)
	}
	if err := cmp.Or(a.checkContext(), a.checkNames()); err != nil {
		return err
	}
	for _, p := range a.Platforms {
		if _, err := platforms.Parse(p); err != nil {
			return fmt.Errorf("platform %q: %w", p, err)
		}
	}
	if err := cmp.Or(oneOf("compression", a.Compression, "gzip", "zstd", "none"), oneOf("network", a.Network, "default", "none")); err != nil {
		return err
	}
	return a.Output.Validate()
}

// checkContext refuses a password in a URL: args are stored and shown.
func (a Args) checkContext() error {
	u, err := url.Parse(a.Context)
	if err != nil || u.User == nil {
		return nil
	}
	if _, password := u.User.Password(); password || u.Scheme != "ssh" {
		return fmt.Errorf("context: credentials do not belong in the URL of %s; give them as the secret GIT_AUTH_TOKEN", u.Host)
	}
	return nil
}

func (a Args) checkNames() error {
	for _, id := range append(a.Secrets[:len(a.Secrets):len(a.Secrets)], a.SSH...) {
		if !secretID.MatchString(id) {
			return fmt.Errorf("secret %q: an ID is made of letters, digits, and any of _.-", id)
		}
	}
	for name := range a.BuildArgs {
		switch {
		case !argName.MatchString(name):
			return fmt.Errorf("build argument %q: want NAME=VALUE", name)
		case name == "BUILDKIT_SYNTAX":
			return fmt.Errorf("build argument %s: a frontend would be pulled and run; only the one that buildkitd has built in is used", name)
		}
	}
	return nil
}

func oneOf(what, got string, allowed ...string) error {
	for _, s := range append(allowed, "") {
		if got == s {
			return nil
		}
	}
	return fmt.Errorf("%s %q is none of %s", what, got, strings.Join(allowed, ", "))
}

// Hosts are the registries that the job is known to talk to; the images that the Dockerfile
// builds on are not.
func (a Args) Hosts() []string { return layer.RegistryHosts(a.Target) }

// References implements jobs.Referring.
func (a Args) References() (reads, writes []string) { return nil, a.Output.Writes() }
