// Package build is the job kind that makes an image from a Dockerfile.
package build

import (
	"cmp"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/tonistiigi/go-csvvalue"

	"github.com/lithify/lithify/jobs/convert"
	"github.com/lithify/lithify/jobs/layer"
)

// Kind names the job kind.
const Kind = "build"

// Args say what to build. They hold no secrets: those are named by the IDs under which
// whoever builds has them.
type Args struct {
	Context    string            `json:"context,omitempty"`    // as package build opens it
	Archive    *Archive          `json:"archive,omitempty"`    // instead of Context
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

	// Spread has each platform built by a job of its own, on a worker of that platform.
	Spread bool `json:"spread,omitempty"`
	// Part is such a job: it pushes what it builds and moves no tag.
	Part bool `json:"part,omitempty"`

	convert.Output
}

// Archive is a context as a tar archive in the target's repository, a blob that nothing
// refers to: a registry's garbage collection may remove it once the job has ended.
type Archive struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
}

// Kind implements jobs.Args.
func (Args) Kind() string { return Kind }

// String is the job in a few words.
func (a Args) String() string {
	from, how := a.Context, ""
	if a.Archive != nil {
		from = a.Archive.Digest.String()
	}
	if a.Part {
		how = " for " + strings.Join(a.Platforms, ",")
	}
	return "build " + from + how + " as " + a.Target
}

var (
	secretID = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
	argName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)
)

// maxPlatforms of a build may each be a job.
const maxPlatforms = 16

// Validate implements jobs.Args. It looks at the words alone and asks nobody.
func (a Args) Validate() error {
	switch {
	case (a.Context == "") == (a.Archive == nil):
		return fmt.Errorf("a context is required, or an archive instead")
	case a.Archive != nil && (a.Archive.Digest.Validate() != nil || a.Archive.Size <= 0):
		return fmt.Errorf("archive %v: want a digest and a size", *a.Archive)
	case a.Part && len(a.Platforms) != 1 || a.Part && a.Spread:
		return fmt.Errorf("a part of a build is for one platform")
	case a.Spread && len(a.Platforms) == 0:
		return fmt.Errorf("which platforms are to be spread over workers?")
	case convert.IsFile(a.Target):
		return fmt.Errorf("target %q: a build is pushed to a registry", a.Target)
	case !a.Epoch.IsZero() && a.Epoch.Unix() < 0:
		return fmt.Errorf("the epoch %v lies before 1970", a.Epoch)
	}
	if err := cmp.Or(a.checkContext(), a.checkNames()); err != nil {
		return err
	}
	if err := a.checkPlatforms(); err != nil {
		return err
	}
	if err := cmp.Or(convert.OneOf("compression", a.Compression, "gzip", "zstd", "none"), convert.OneOf("network", a.Network, "default", "none")); err != nil {
		return err
	}
	for _, c := range slices.Concat(a.CacheFrom, a.CacheTo) {
		if _, _, err := parseCache(c); err != nil {
			return err
		}
	}
	return a.Output.Validate()
}

func (a Args) checkPlatforms() error {
	names := map[string]bool{} // one platform may have several: linux/arm64 and linux/arm64/v8
	for _, p := range a.Platforms {
		parsed, err := platforms.Parse(p)
		if err != nil {
			return fmt.Errorf("platform %q: %w", p, err)
		}
		names[platforms.FormatAll(platforms.Normalize(parsed))] = true
	}
	if len(a.Platforms) > maxPlatforms || len(names) < len(a.Platforms) {
		return fmt.Errorf("platforms %v: want each once, and at most %d", a.Platforms, maxPlatforms)
	}
	return nil
}

// parseCache gives the types and references that a cache names, as BuildKit reads it: of
// several the last one counts.
func parseCache(s string) (types, refs []string, err error) {
	fields, err := csvvalue.Fields(s, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("cache %q: %w", s, err)
	}
	for _, f := range fields {
		switch key, value, _ := strings.Cut(f, "="); strings.ToLower(key) {
		case "type":
			types = append(types, value)
		case "ref":
			refs = append(refs, value)
		}
	}
	if len(types) == 0 {
		return nil, nil, fmt.Errorf("cache %q: want type=registry,ref=REF or another type that BuildKit knows", s)
	}
	return types, refs, nil
}

// CheckPool says why a job cannot be one of a pool. A cache of most types would be of files
// or accounts of the worker.
func (a Args) CheckPool() error {
	for _, c := range slices.Concat(a.CacheFrom, a.CacheTo) {
		types, _, err := parseCache(c)
		if err != nil {
			return err
		}
		for _, t := range types {
			if t != "registry" && t != "inline" {
				return fmt.Errorf("cache %q: in a pool the type is registry or inline", c)
			}
		}
	}
	return nil
}

// checkContext refuses a password in a URL: args are stored and shown. Of what cannot be read
// nobody knows where the password is.
func (a Args) checkContext() error {
	u, err := url.Parse(a.Context)
	if err != nil && strings.Contains(a.Context, "://") {
		return fmt.Errorf("context: it is no URL that can be read; one may hold a password, so that it is not shown")
	}
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

// Hosts are the registries that the job is known to talk to; the images that the Dockerfile
// builds on are not.
func (a Args) Hosts() []string { return layer.RegistryHosts(a.Target) }

// References implements jobs.Referring. What the Dockerfile builds on is not known of the
// args: who may submit builds may read what the builder's credentials do.
func (a Args) References() (reads, writes []string) {
	writes = a.Output.Writes()
	switch {
	case a.Context == "":
	case strings.Contains(a.Context, "://"):
		reads = append(reads, a.Context)
	default: // a directory or file of the worker, or a repository in another form
		reads = append(reads, "oci:"+a.Context)
	}
	for _, c := range a.CacheFrom {
		_, refs, _ := parseCache(c) // of valid args it has no error
		reads = append(reads, refs...)
	}
	for _, c := range a.CacheTo {
		_, refs, _ := parseCache(c)
		writes = append(writes, refs...)
	}
	return reads, writes
}
