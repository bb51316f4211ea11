package run

import (
	"crypto/ed25519"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"

	convertrun "github.com/lithify/lithify/jobs/convert/run"
	"github.com/lithify/lithify/restore"
	"github.com/lithify/lithify/restore/encrypt"
)

// Config says how a worker of a pool restores. Without a policy it does not.
type Config struct {
	Root    string // default restore.DefaultRoot
	Secrets string // directory of a file for each secret, by its ID
	Decrypt encrypt.Keys
	Cache   int64 // bytes; default restore.DefaultCache
	CNI     restore.CNI
	// Policy is a file, as LoadPolicy reads it. It says all; the flags of one rule are then
	// left out.
	Policy string

	// What makes a rule for everybody's jobs.
	from, mounts     []string
	keys             []ed25519.PublicKey
	hostNetwork, cni bool
	localCopy        bool
}

// AddFlags adds the flags of every program that is a worker.
func (c *Config) AddFlags(fs *flag.FlagSet) {
	list := func(to *[]string) func(string) error {
		return func(s string) error { *to = append(*to, strings.Split(s, ",")...); return nil }
	}
	fs.Func("restore-from", "restore checkpoints of these repositories in --containerd, as r.example.com/web or r.example.com/checkpoints/; * is any; without it, or --restore-policy, none are taken", list(&c.from))
	fs.StringVar(&c.Policy, "restore-policy", "", "YAML file that says whose jobs may restore which checkpoints as what in --containerd, in place of --restore-from, -key, -cni, -host-network, -mounts and -local-copy")
	fs.StringVar(&c.Root, "restore-root", restore.DefaultRoot, "where checkpoints are kept unpacked; containerd has to see it, too")
	fs.Func("restore-cache-size", "how much the checkpoints may take that stay unpacked in --restore-root, as 50GiB; those used longest ago go first (default "+units.BytesSize(restore.DefaultCache)+")", func(s string) (err error) {
		c.Cache, err = ParseSize(s)
		return err
	})
	fs.Func("restore-key", "PEM file with an Ed25519 public key that may have signed checkpoints, by a worker with --ledger-key; may be given again; without it none need be signed; with it jobs name no base image of their own", func(file string) error {
		key, err := convertrun.LoadPublicKey(file)
		c.keys = append(c.keys, key)
		return err
	})
	fs.Func("restore-decrypt-with", "PEM file with private keys by which checkpoints are read that are encrypted to them; may be given again", func(file string) error {
		keys, err := LoadKeys(file)
		c.Decrypt = append(c.Decrypt, keys...)
		return err
	})
	fs.StringVar(&c.Secrets, "restore-secrets", "", "directory of the secrets that restored containers may be given: a file for each, whose name is its ID")
	fs.BoolVar(&c.cni, "restore-cni", false, "let restored containers have a network from this machine's CNI plugins")
	fs.StringVar(&c.CNI.ConfDir, "restore-cni-conf-dir", restore.DefaultConfDir, "where CNI networks are configured; the first .conflist counts")
	fs.Func("restore-cni-bin-dirs", "where the CNI plugins are, as /opt/cni/bin,/usr/lib/cni (default "+restore.DefaultBinDir+")", list(&c.CNI.BinDirs))
	fs.BoolVar(&c.localCopy, "restore-local-copy", false, "restore what a tenant had restored on this machine before, by its digest, also while the registry does not answer, which may let nobody have it any more")
	fs.BoolVar(&c.hostNetwork, "restore-host-network", false, "let restored containers have this machine's network")
	fs.Func("restore-mounts", "directories of this machine that restored containers may have mounted, as /srv,/etc/hosts, or what lies in them; links out of them are refused (default none)", list(&c.mounts))
}

// ParseSize reads a number of bytes, as 50GiB.
func ParseSize(s string) (int64, error) {
	n, err := units.RAMInBytes(s)
	if err == nil && n <= 0 {
		err = fmt.Errorf("it is not above zero: %w", errdefs.ErrInvalidArgument)
	}
	return n, err
}

// LoadKeys reads files with private keys by which checkpoints are decrypted.
func LoadKeys(files ...string) (keys encrypt.Keys, err error) {
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		one, err := encrypt.ParseKeys(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		keys = append(keys, one...)
	}
	return keys, nil
}

// Handler is nil if nothing is to be restored.
func (c Config) Handler(containerd string) (*Handler, error) {
	policy, err := c.policy()
	if policy == nil || err != nil {
		return nil, err
	}
	if containerd == "" {
		return nil, fmt.Errorf("--restore-from and --restore-policy need --containerd: %w", errdefs.ErrInvalidArgument)
	}
	h := &Handler{Address: containerd, Root: c.Root, Cache: c.Cache, Policy: policy, CNI: c.CNI, Decrypt: c.Decrypt}
	if c.Secrets != "" {
		h.Secret = func(id string) (string, error) { return filepath.Join(c.Secrets, id), nil }
	}
	return h, nil
}

// policy is that of the file, or of the flags; nil: none.
func (c Config) policy() (Policy, error) {
	short := len(c.from)+len(c.mounts)+len(c.keys) > 0 || c.cni || c.hostNetwork || c.localCopy
	switch {
	case c.Policy != "" && short:
		return nil, fmt.Errorf("--restore-policy says it all: leave out --restore-from, -key, -cni, -host-network, -mounts and -local-copy: %w", errdefs.ErrInvalidArgument)
	case c.Policy != "":
		return LoadPolicy(c.Policy)
	case len(c.from) == 0:
		return nil, nil
	case slices.Contains(c.from, ""):
		return nil, fmt.Errorf("--restore-from has an empty name: %w", errdefs.ErrInvalidArgument)
	}
	if err := checkMounts(c.mounts); err != nil {
		return nil, fmt.Errorf("--restore-%w: %w", err, errdefs.ErrInvalidArgument)
	}
	r := Anything
	r.From, r.Keys, r.AnyBase, r.Mounts = c.from, c.keys, len(c.keys) == 0, c.mounts
	r.LocalCopy = c.localCopy
	r.Networks = []string{string(restore.NoNetwork)}
	if c.cni {
		r.Networks = append(r.Networks, string(restore.CNINetwork))
	}
	if c.hostNetwork {
		r.Networks = append(r.Networks, string(restore.HostNetwork))
	}
	return Policy{r}, nil
}
