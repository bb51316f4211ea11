package build

import (
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/moby/buildkit/client"
	bcbuild "github.com/moby/buildkit/cmd/buildctl/build"
	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/sshforward/sshprovider"
	"github.com/tonistiigi/go-csvvalue"
)

// Request says what to build and where to push it.
type Request struct {
	// Context is a directory, a tar archive (compressed or not) or a Git repository,
	// URL[#REF[:DIR]], as BuildKit reads it.
	Context string
	// Archive, if not nil, is read instead: a tar archive, of which Context is a name for people.
	Archive io.Reader
	// Dockerfile is a path; default Dockerfile in Context. In an archive or a repository
	// it is a name inside.
	Dockerfile string
	Target     string // stage to build; default the last
	Args       map[string]string
	Labels     map[string]string
	Platforms  []string // os/arch[/variant]; default the daemon's
	NoCache    bool
	Network    string // of RUN: none, or default for what the daemon gives

	// In the words of buildctl: id=ID[,src=FILE|env=NAME], default|ID[=SOCKET|KEY,...],
	// type=registry,ref=REF and type=provenance,mode=max.
	Secrets   []string
	SSH       []string
	CacheFrom []string
	CacheTo   []string
	Attest    []string
	// Builder is SLSA's builder.id in provenance, and then not for Attest to say.
	Builder string

	// Epoch is SOURCE_DATE_EPOCH: the time of the image, and the latest of its files.
	Epoch time.Time

	Repository  string // where to push, without a tag
	Compression string // of layers: gzip (default), zstd or none
	Insecure    bool   // speak plain HTTP to Repository
	Limits      Limits
}

// Limits bound what is sent to the daemon of a context; a zero one means its default.
type Limits struct {
	Bytes   int64 // default DefaultLimits.Bytes
	Entries int64
}

// DefaultLimits are far above what a context is that somebody means to send, and far
// below what fills a disk.
var DefaultLimits = Limits{Bytes: 4 << 30, Entries: 1_000_000}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", fmt.Errorf(format, args...), errdefs.ErrInvalidArgument)
}

// IsGit tells a context that is a Git repository from a path.
func IsGit(context string) bool {
	_, ok, err := dfgitutil.ParseGitRef(context)
	return ok && err == nil
}

// Validate says what is wrong with how r is written. It opens nothing.
func (r Request) Validate() error {
	if err := r.checkContext(); err != nil {
		return err
	}
	if _, err := name.NewRepository(r.Repository); err != nil {
		return invalid("repository %q: %w", r.Repository, err)
	}
	for key := range r.Args {
		if key == "" || strings.ContainsAny(key, "= \t\n") {
			return invalid("build argument %q: want NAME=VALUE", key)
		}
		if key == "BUILDKIT_SYNTAX" {
			return invalid("build argument %s: a frontend would be pulled and run; only the one that buildkitd has built in is used", key)
		}
	}
	for _, p := range r.Platforms {
		if _, err := platforms.Parse(p); err != nil {
			return invalid("platform %q: %w", p, err)
		}
	}
	if !slices.Contains([]string{"", "default", "none"}, r.Network) {
		return invalid("network %q is neither default nor none", r.Network)
	}
	if _, err := compression(r.Compression); err != nil {
		return err
	}
	if !r.Epoch.IsZero() && r.Epoch.Unix() < 0 {
		return invalid("the epoch %v lies before 1970", r.Epoch)
	}
	attestations, err := r.attestations()
	if err != nil {
		return err
	}
	if _, scan := attestations["attest:sbom"]; scan && r.Network == "none" {
		return invalid("attest: an SBOM's generator is a step that buildkitd gives its network, and there is to be none")
	}
	_, err = bcbuild.ParseSSH(r.SSH)
	if err != nil {
		return invalid("ssh: %w", err)
	}
	_, _, err = r.caches()
	return err
}

func (r Request) checkContext() error {
	if r.Archive != nil {
		return nil
	}
	if r.Context == "" {
		return invalid("a context is required")
	}
	u, err := url.Parse(r.Context)
	if err != nil && strings.Contains(r.Context, "://") {
		return invalid("context: it is no URL that can be read; one may hold a password, so that it is not shown")
	}
	if u != nil && u.User != nil {
		if _, password := u.User.Password(); password || u.Scheme != "ssh" {
			return invalid("context: credentials do not belong in the URL of %s; give them as the secret GIT_AUTH_TOKEN", u.Host)
		}
	}
	_, git, err := dfgitutil.ParseGitRef(r.Context)
	if git && err != nil {
		return invalid("context %q: %w", r.Context, err)
	}
	if !git && u != nil && u.Host != "" {
		return invalid("context %q is no Git repository: the URL of one ends in .git, or begins with git:// or ssh://", r.Context)
	}
	return nil
}

// attestations are the frontend's attributes for r.Attest.
func (r Request) attestations() (map[string]string, error) {
	attrs := map[string]string{}
	for _, s := range r.Attest {
		fields, err := csvvalue.Fields(s, nil)
		if err != nil {
			return nil, invalid("attest %q: %w", s, err)
		}
		kind, rest := "", []string{}
		for _, f := range fields {
			key, value, ok := strings.Cut(f, "=")
			switch {
			case !ok:
				return nil, invalid("attest %q: want type=provenance|sbom[,KEY=VALUE...]", s)
			case key == "type":
				kind = value
			case key == "builder-id" && r.Builder != "":
				return nil, invalid("attest %q: who has built is said by who signs it, %s", s, r.Builder)
			default:
				rest = append(rest, f)
			}
		}
		if kind != "provenance" && kind != "sbom" {
			return nil, invalid("attest %q: the type is neither provenance nor sbom", s)
		}
		if kind == "provenance" && r.Builder != "" {
			rest = append(rest, "builder-id="+r.Builder)
		}
		attrs["attest:"+kind] = strings.Join(rest, ",")
	}
	return attrs, nil
}

func (r Request) caches() (from, to []client.CacheOptionsEntry, err error) {
	for _, s := range append(slices.Clone(r.CacheFrom), r.CacheTo...) {
		if !strings.Contains(s, "type=") {
			return nil, nil, invalid("cache %q: want type=registry,ref=REF or another type that BuildKit knows", s)
		}
	}
	if from, err = bcbuild.ParseImportCache(r.CacheFrom); err != nil {
		return nil, nil, invalid("cache-from: %w", err)
	}
	if to, err = bcbuild.ParseExportCache(r.CacheTo); err != nil {
		return nil, nil, invalid("cache-to: %w", err)
	}
	return from, to, nil
}

// agents answer the daemon's questions for keys.
func (r Request) agents() ([]session.Attachable, error) {
	if len(r.SSH) == 0 {
		return nil, nil
	}
	configs, err := bcbuild.ParseSSH(r.SSH)
	if err != nil {
		return nil, invalid("ssh: %w", err)
	}
	agents, err := sshprovider.NewSSHAgentProvider(configs)
	if err != nil {
		return nil, invalid("ssh: %w", err)
	}
	return []session.Attachable{agents}, nil
}

func compression(s string) (string, error) {
	switch s {
	case "", "gzip":
		return "gzip", nil
	case "zstd":
		return s, nil
	case "none":
		return "uncompressed", nil
	}
	return "", invalid("compression %q is none of gzip, zstd, none", s)
}
