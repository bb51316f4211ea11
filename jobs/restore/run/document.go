package run

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
	"go.yaml.in/yaml/v3"

	"github.com/lithify/lithify/convert/stack"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	"github.com/lithify/lithify/restore"
)

// document is a policy as a file has it:
//
//	version: 1
//	rules:
//	- name: shop                        # for errors
//	  tenants: [shop, shop-*]           # patterns; "*" is any
//	  from: [r.example.com/saved/shop, r.example.com/shop/]   # with a slash: all below; "*" is any
//	  keys: [shop.pub]                  # one of which has signed it; default: not signed
//	  encrypted: true                   # default false
//	  any_base: false                   # jobs may name another base image; default false
//	  local_copy: false                 # restore what a tenant had restored here before while its registry is away; default false
//	  namespaces: [default]             # patterns of containerd's; default [default]
//	  names: [shop-*]                   # patterns of containers; default any
//	  networks: [none, cni]             # of none, cni and host; default [none]
//	  mounts: [/srv/shop]               # these directories and what is in them; default none
//	  secrets: [shop-*]                 # patterns of IDs; default none
type document struct {
	Version int        `yaml:"version"`
	Rules   []fileRule `yaml:"rules"`
}

type fileRule struct {
	Name       string   `yaml:"name"`
	Tenants    []string `yaml:"tenants"`
	From       []string `yaml:"from"`
	Keys       []string `yaml:"keys"`
	Encrypted  bool     `yaml:"encrypted"`
	AnyBase    bool     `yaml:"any_base"`
	LocalCopy  bool     `yaml:"local_copy"`
	Namespaces []string `yaml:"namespaces"`
	Names      []string `yaml:"names"`
	Networks   []string `yaml:"networks"`
	Mounts     []string `yaml:"mounts"`
	Secrets    []string `yaml:"secrets"`
}

// documentVersion is that of the form above.
const documentVersion = 1

// LoadPolicy reads a policy from a file, and the public keys that it names, which lie beside
// it unless their names are absolute. What is wrong with it is an
// errdefs.ErrInvalidArgument.
func LoadPolicy(file string) (Policy, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	p, err := parsePolicy(raw, filepath.Dir(file))
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", file, err, errdefs.ErrInvalidArgument)
	}
	return p, nil
}

func parsePolicy(raw []byte, dir string) (Policy, error) {
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	var d document
	if err := dec.Decode(&d); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.Join(errors.New("there is a second document"), err)
	}
	switch {
	case d.Version != documentVersion:
		return nil, fmt.Errorf("version %d: this lithify knows %d", d.Version, documentVersion)
	case len(d.Rules) == 0:
		return nil, errors.New("it has no rules, and lets nothing be restored")
	}
	p := Policy{}
	for i, one := range d.Rules {
		if one.Name == "" || slices.ContainsFunc(p, func(r Rule) bool { return r.Name == one.Name }) {
			return nil, fmt.Errorf("rule %d: its name %q is empty or another's, and refusals call it by that", i+1, one.Name)
		}
		r, err := one.rule(dir)
		if err != nil {
			return nil, fmt.Errorf("rule %s: %w", one.Name, err)
		}
		p = append(p, r)
	}
	return p, nil
}

// rule is what the file says, with its defaults.
func (f fileRule) rule(dir string) (Rule, error) {
	if err := f.check(); err != nil {
		return Rule{}, err
	}
	r := Rule{
		Name: f.Name, Tenants: f.Tenants, From: f.From, Encrypted: f.Encrypted, AnyBase: f.AnyBase, LocalCopy: f.LocalCopy,
		Namespaces: or(f.Namespaces, stack.DefaultNamespace), Names: or(f.Names, "*"), Networks: or(f.Networks, string(restore.NoNetwork)),
		Mounts: f.Mounts, Secrets: f.Secrets,
	}
	for _, file := range f.Keys {
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		key, err := convertrun.LoadPublicKey(file)
		if err != nil {
			return Rule{}, err
		}
		r.Keys = append(r.Keys, key)
	}
	return r, nil
}

func or(given []string, otherwise string) []string {
	if given == nil {
		return []string{otherwise}
	}
	return given
}

func (f fileRule) check() error {
	switch {
	case len(f.Tenants) == 0:
		return errors.New(`it is for nobody: name tenants, or "*"`)
	case len(f.From) == 0:
		return errors.New("it is for no checkpoints: name their repositories at from")
	case slices.Contains(f.From, ""):
		return errors.New("from has an empty name")
	case f.Keys != nil && len(f.Keys) == 0:
		return errors.New("keys is empty: leave it out if checkpoints need not be signed")
	}
	for _, n := range f.Networks {
		if !slices.Contains(Anything.Networks, n) {
			return fmt.Errorf("network %q is none of %v", n, Anything.Networks)
		}
	}
	for _, p := range slices.Concat(f.Tenants, f.Namespaces, f.Names, f.Secrets) {
		if _, err := path.Match(p, ""); err != nil || p == "" {
			return fmt.Errorf("pattern %q: want one of Go's path.Match", p)
		}
	}
	return checkMounts(f.Mounts)
}

// checkMounts refuses directories that depend on where the worker was started.
func checkMounts(dirs []string) error {
	for _, dir := range dirs {
		if !path.IsAbs(dir) {
			return fmt.Errorf("mounts %q: want absolute paths", dir)
		}
	}
	return nil
}
