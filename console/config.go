package console

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"go.yaml.in/yaml/v3"

	"github.com/lithify/lithify/console/webhook"
	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/all"
)

// Config says who may ask for what. Its YAML is documented in docs/console.md.
type Config struct {
	Hooks   []Hook   `yaml:"hooks"`
	Issuers []Issuer `yaml:"issuers"`
	// OperatorKeyFiles are the keys of those who see all of the pool in the web page, and may
	// cancel and retry its jobs; two while one is replaced.
	OperatorKeyFiles []string `yaml:"operator_key_files"`

	operatorKeys []string
}

// Hook is a Git host that posts to /hooks/NAME.
type Hook struct {
	Name        string       `yaml:"name"`
	Host        webhook.Host `yaml:"host"`
	SecretFiles []string     `yaml:"secret_files"` // two while one is replaced; the host's secret, without the line's end
	Rules       []PushRule   `yaml:"rules"`

	secrets []string
}

// PushRule is the job that a push to a ref of a repository is worth. Every rule that
// matches submits one.
type PushRule struct {
	Repository string     `yaml:"repository"` // pattern of its full name
	Ref        string     `yaml:"ref"`        // pattern
	Submit     Submission `yaml:"submit"`
}

// Submission is a job but for what the push says: $repository, $url, $ref, $branch,
// $tag, $name (branch or tag, as an image's tag may be),
// $base (the end of $repository), $commit and $short (12 digits) in its strings.
type Submission struct {
	Kind     string         `yaml:"kind"`
	Args     map[string]any `yaml:"args"`
	Tenant   string         `yaml:"tenant"`
	Priority jobs.Priority  `yaml:"priority"`
	Timeout  time.Duration  `yaml:"timeout"`
}

// Issuer vouches for those who ask at /v1/jobs: an OpenID provider, as that of GitHub
// Actions or of a GitLab.
type Issuer struct {
	URL      string  `yaml:"url"`
	Audience string  `yaml:"audience"` // that its tokens for this pool name, and for nobody else
	Grants   []Grant `yaml:"grants"`
}

// Grant is what a token with such claims may do.
type Grant struct {
	Claims     map[string]string `yaml:"claims"` // all of them; patterns
	Kinds      []string          `yaml:"kinds"`
	Reads      []string          `yaml:"reads"`      // patterns of host/repository
	Writes     []string          `yaml:"writes"`     // patterns of host/repository
	Tenant     string            `yaml:"tenant"`     // whose jobs they are; all of it may be looked at and cancelled
	Insecure   bool              `yaml:"insecure"`   // jobs may speak plain HTTP to registries, with the workers' credentials
	Priorities []jobs.Priority   `yaml:"priorities"` // default: any
}

// Load reads a configuration and the secrets that it names, whose files lie beside it
// unless their names are absolute. What is wrong with it is errdefs.ErrInvalidArgument.
func Load(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, err
	}
	var c Config
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return c, fmt.Errorf("%s: %w: %w", path, err, errdefs.ErrInvalidArgument)
	}
	for i := range c.Hooks {
		h := &c.Hooks[i]
		if h.secrets, err = readSecrets(filepath.Dir(path), h.SecretFiles); err != nil {
			return c, fmt.Errorf("%s: hook %s: %w", path, h.Name, err)
		}
	}
	if c.operatorKeys, err = readSecrets(filepath.Dir(path), c.OperatorKeyFiles); err != nil {
		return c, fmt.Errorf("%s: operator_key_files: %w", path, err)
	}
	if err := c.check(); err != nil {
		return c, fmt.Errorf("%s: %w: %w", path, err, errdefs.ErrInvalidArgument)
	}
	return c, nil
}

// readSecrets reads files, each a secret without the line's end.
func readSecrets(dir string, names []string) (secrets []string, err error) {
	for _, name := range names {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		secrets = append(secrets, strings.TrimRight(string(b), "\r\n"))
	}
	return secrets, nil
}

// WithOperator lets those in who have a key, as one of OperatorKeyFiles does.
func (c Config) WithOperator(key string) Config {
	c.operatorKeys = append(slices.Clone(c.operatorKeys), key)
	return c
}

func (c Config) check() error {
	for _, key := range c.operatorKeys {
		if err := webhook.CheckSecret(key); err != nil {
			return fmt.Errorf("operator_key_files: %w", err)
		}
	}
	names := map[string]bool{}
	for _, h := range c.Hooks {
		if err := h.check(); err != nil {
			return fmt.Errorf("hook %q: %w", h.Name, err)
		}
		if names[h.Name] {
			return fmt.Errorf("hook %q is there twice", h.Name)
		}
		names[h.Name] = true
	}
	for _, i := range c.Issuers {
		if names[i.URL] {
			return fmt.Errorf("issuer %s is there twice", i.URL)
		}
		names[i.URL] = true
		if err := i.check(); err != nil {
			return fmt.Errorf("issuer %q: %w", i.URL, err)
		}
	}
	return nil
}

func (h Hook) check() error {
	switch {
	case h.Name == "" || strings.ContainsAny(h.Name, "/{} ?#"):
		return errors.New("its name is to be part of a path")
	case !slices.Contains(webhook.Hosts, h.Host):
		return fmt.Errorf("host %q is none of %v", h.Host, webhook.Hosts)
	case len(h.secrets) == 0:
		return errors.New("without a secret anybody could post: name secret_files")
	case len(h.Rules) == 0:
		return errors.New("without rules nothing comes of a push")
	}
	for _, s := range h.secrets {
		if err := webhook.CheckSecret(s); err != nil {
			return err
		}
	}
	for i, r := range h.Rules {
		if err := cmp.Or(checkPatterns(r.Repository, r.Ref), r.check()); err != nil {
			return fmt.Errorf("rule %d: %w", i+1, err)
		}
	}
	return nil
}

// check tries the rule with a push such as will come.
func (r PushRule) check() error {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	_, err := r.job(webhook.Push{ID: commit, Repository: "acme/app", CloneURL: "https://git.example.com/acme/app.git", Ref: "refs/heads/main", Commit: commit}, "check")
	return err
}

func (i Issuer) check() error {
	u, err := url.Parse(i.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && IsLoopback(u.Hostname())):
		return errors.New("its URL begins with https://, or who is between gives it other keys; on this machine http:// will do")
	case i.Audience == "":
		return errors.New("without an audience, tokens that are for others would count here")
	case len(i.Grants) == 0:
		return errors.New("without grants nobody may do anything")
	}
	for n, g := range i.Grants {
		if err := g.check(); err != nil {
			return fmt.Errorf("grant %d: %w", n+1, err)
		}
	}
	return nil
}

func (g Grant) check() error {
	if len(g.Claims) == 0 {
		return errors.New("without claims it is for everybody whom the issuer knows")
	}
	for _, p := range g.Priorities {
		if _, err := jobs.ParsePriority(string(p)); err != nil {
			return err
		}
	}
	if err := jobs.CheckTenant(g.Tenant); err != nil {
		return fmt.Errorf("tenant: %w", err)
	}
	known := all.Validators()
	for _, k := range g.Kinds {
		if known[k] == nil {
			return fmt.Errorf("kind %q is not known", k)
		}
	}
	if len(g.Kinds) == 0 {
		return errors.New("without kinds it allows nothing")
	}
	for _, v := range g.Claims {
		if err := checkPatterns(v); err != nil {
			return err
		}
	}
	return cmp.Or(checkPatterns(g.Reads...), checkPatterns(g.Writes...))
}
