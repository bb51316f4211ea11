package run

import (
	"crypto/ed25519"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"

	"github.com/lithify/lithify/convert/registry"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	restorejob "github.com/lithify/lithify/jobs/restore"
	"github.com/lithify/lithify/restore"
	"github.com/lithify/lithify/restore/encrypt"
)

// Policy is what a machine lets a checkpoint become. The zero Policy lets nothing.
type Policy struct {
	// From are the repositories whose checkpoints may be restored: a repository, or with
	// a slash at its end all below it. Everywhere is any source, files too.
	From []string
	// Keys are those of which one must have signed a checkpoint; none: it need not be signed.
	Keys []ed25519.PublicKey
	// HostNetwork lets containers have the machine's network.
	HostNetwork bool
	// CNI lets them have a network from its CNI plugins.
	CNI bool
	// Mounts are the directories of the machine of which, or of what is in them, containers
	// may have something mounted.
	Mounts []string
}

// Everywhere is the From of a machine whose user decides.
const Everywhere = "*"

// Anything is the policy of who restores on their own machine.
var Anything = Policy{From: []string{Everywhere}, HostNetwork: true, CNI: true, Mounts: []string{"/"}}

// check refuses what the policy does not let: an errdefs.ErrPermissionDenied.
func (p Policy) check(a restorejob.Args) error {
	deny := func(what, flag string) error {
		return fmt.Errorf("%s is not allowed on this machine (see lithify-worker %s): %w", what, flag, errdefs.ErrPermissionDenied)
	}
	if !p.from(a.Source) {
		return deny("a checkpoint of "+a.Source, "--restore-from")
	}
	if a.Network == string(restore.HostNetwork) && !p.HostNetwork {
		return deny("the machine's network", "--restore-host-network")
	}
	if a.Network == string(restore.CNINetwork) && !p.CNI {
		return deny("a network from CNI", "--restore-cni")
	}
	for _, m := range a.Mounts {
		if !slices.ContainsFunc(p.Mounts, func(dir string) bool { return below(dir, m.Source) }) {
			return deny("a mount of "+m.Source, "--restore-mounts")
		}
	}
	return nil
}

func (p Policy) from(ref string) bool {
	if slices.Contains(p.From, Everywhere) {
		return true
	}
	repository, err := registry.RepositoryName(ref)
	return err == nil && slices.ContainsFunc(p.From, func(from string) bool {
		return repository == from || strings.HasSuffix(from, "/") && strings.HasPrefix(repository, from)
	})
}

// below reports whether the path is dir or lies in it, as it is written: what is mounted
// must not be a link that leads out, which is the machine's to see to.
func below(dir, file string) bool {
	dir, file = path.Clean(dir), path.Clean(file)
	return dir == "/" || file == dir || strings.HasPrefix(file, dir+"/")
}

// Config says how a worker of a pool restores. Without repositories it does not.
type Config struct {
	Root    string // default restore.DefaultRoot
	Secrets string // directory of a file for each secret, by its ID
	Decrypt encrypt.Keys
	Cache   int64 // bytes; default restore.DefaultCache
	Policy  Policy
	CNI     restore.CNI
}

// AddFlags adds the flags of every program that is a worker.
func (c *Config) AddFlags(fs *flag.FlagSet) {
	list := func(to *[]string) func(string) error {
		return func(s string) error { *to = append(*to, strings.Split(s, ",")...); return nil }
	}
	fs.Func("restore-from", "restore checkpoints of these repositories in --containerd, as r.example.com/web or r.example.com/checkpoints/; * is any; without it none are taken", list(&c.Policy.From))
	fs.StringVar(&c.Root, "restore-root", restore.DefaultRoot, "where checkpoints are kept unpacked; containerd has to see it, too")
	fs.Func("restore-cache-size", "how much the checkpoints may take that stay unpacked in --restore-root, as 50GiB; those used longest ago go first (default 20GiB)", func(s string) (err error) {
		c.Cache, err = ParseSize(s)
		return err
	})
	fs.Func("restore-key", "PEM file with an Ed25519 public key that may have signed checkpoints, by a worker with --ledger-key; may be given again; without it none need be signed", func(file string) error {
		key, err := convertrun.LoadPublicKey(file)
		c.Policy.Keys = append(c.Policy.Keys, key)
		return err
	})
	fs.Func("restore-decrypt-with", "PEM file with a private key by which checkpoints are read that are encrypted to it; may be given again", func(file string) error {
		keys, err := LoadKeys(file)
		c.Decrypt = append(c.Decrypt, keys...)
		return err
	})
	fs.StringVar(&c.Secrets, "restore-secrets", "", "directory of the secrets that restored containers may be given: a file for each, whose name is its ID")
	fs.BoolVar(&c.Policy.CNI, "restore-cni", false, "let restored containers have a network from this machine's CNI plugins")
	fs.StringVar(&c.CNI.ConfDir, "restore-cni-conf-dir", restore.DefaultConfDir, "where CNI networks are configured; the first .conflist counts")
	fs.Func("restore-cni-bin-dirs", "where the CNI plugins are, as /opt/cni/bin,/usr/lib/cni (default "+restore.DefaultBinDir+")", list(&c.CNI.BinDirs))
	fs.BoolVar(&c.Policy.HostNetwork, "restore-host-network", false, "let restored containers have this machine's network")
	fs.Func("restore-mounts", "directories of this machine that restored containers may have mounted, as /srv,/etc/hosts (default none)", list(&c.Policy.Mounts))
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
	switch {
	case len(c.Policy.From) == 0:
		return nil, nil
	case containerd == "":
		return nil, fmt.Errorf("--restore-from needs --containerd: %w", errdefs.ErrInvalidArgument)
	case slices.Contains(c.Policy.From, ""):
		return nil, fmt.Errorf("--restore-from has an empty name: %w", errdefs.ErrInvalidArgument)
	}
	for _, dir := range c.Policy.Mounts {
		if !path.IsAbs(dir) {
			return nil, fmt.Errorf("--restore-mounts %q: want absolute paths: %w", dir, errdefs.ErrInvalidArgument)
		}
	}
	h := &Handler{Address: containerd, Root: c.Root, Cache: c.Cache, Policy: c.Policy, CNI: c.CNI, Decrypt: c.Decrypt}
	if c.Secrets != "" {
		h.Secret = func(id string) (string, error) { return filepath.Join(c.Secrets, id), nil }
	}
	return h, nil
}
