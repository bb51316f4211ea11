package run

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/jobs"
	restorejob "github.com/lithify/lithify/jobs/restore"
	"github.com/lithify/lithify/restore"
	"github.com/lithify/lithify/restore/image"
)

// Policy says what a machine lets checkpoints become. The first rule that is of a job's
// tenant and of the source that it names decides; without one the job is refused.
type Policy []Rule

// Rule is for some tenants' jobs and some checkpoints. What it does not name it does not let:
// the zero Rule is for nobody. Patterns are path.Match's.
type Rule struct {
	Name    string   // for errors; none: it was made of flags
	Tenants []string // patterns
	// From are the repositories of the checkpoints: a repository, or with a slash at its
	// end all below it. Everywhere is any source, files too.
	From []string

	// Keys are those of which one must have signed a checkpoint; none: it need not be signed.
	Keys []ed25519.PublicKey
	// Encrypted wants checkpoints that are encrypted.
	Encrypted bool
	// AnyBase lets a job name another base image than the checkpoint does: its files are what
	// the processes then have, whoever signed the checkpoint.
	AnyBase bool
	// LocalCopy lets a job have the machine's own copy while the registry does not answer: see
	// restore.Options.LocalFor. Who was taken the right to pull meanwhile may have it still.
	LocalCopy bool

	Namespaces []string // patterns of containerd's
	Names      []string // patterns of what containers are called
	Networks   []string // none, cni and host
	// Mounts are the directories of the machine of which, or of what is in them, containers
	// may have something mounted; links out of them are not followed.
	Mounts  []string
	Secrets []string // patterns of their IDs
}

// Everywhere is the From of a machine whose user decides.
const Everywhere = "*"

// all is the pattern of all names.
var all = []string{"*"}

// Anything is the rule of who restores on their own machine.
var Anything = Rule{
	Tenants: all, From: []string{Everywhere}, AnyBase: true, Namespaces: all, Names: all,
	Networks: []string{string(restore.NoNetwork), string(restore.HostNetwork), string(restore.CNINetwork)},
	Mounts:   []string{"/"}, Secrets: all,
}

// check finds the rule of a job, and refuses what that does not let: an
// errdefs.ErrPermissionDenied.
func (p Policy) check(ctx context.Context, a restorejob.Args) (Rule, error) {
	tenant := jobs.TenantOf(ctx)
	i := slices.IndexFunc(p, func(r Rule) bool { return matches(r.Tenants, tenant) && r.from(a.Source) })
	if i >= 0 {
		return p[i], p[i].check(a)
	}
	if len(p) == 1 && p[0].Name == "" {
		return Rule{}, p[0].deny("a checkpoint of "+a.Source, "from")
	}
	return Rule{}, fmt.Errorf("no rule of this machine's restore policy is for checkpoints of %s and jobs of tenant %s: %w", a.Source, tenant, errdefs.ErrPermissionDenied)
}

// check refuses what a job of the rule's may not have.
func (r Rule) check(a restorejob.Args) error {
	namespace := cmp.Or(a.Namespace, stack.DefaultNamespace)
	network := cmp.Or(a.Network, string(restore.NoNetwork))
	switch {
	case !matches(r.Namespaces, namespace):
		return r.deny("a container in the namespace "+namespace, "namespaces")
	case !matches(r.Names, a.Name):
		return r.deny("a container named "+a.Name, "names")
	case !slices.Contains(r.Networks, network):
		return r.deny("the network "+network, "networks")
	case a.Base != "" && !r.AnyBase:
		return r.deny("another base image than the checkpoint's", "any_base")
	}
	for _, m := range a.Mounts {
		if _, ok := r.mount(path.Clean(m.Source)); !ok {
			return r.deny("a mount of "+m.Source, "mounts")
		}
	}
	for _, id := range a.Secrets {
		if !matches(r.Secrets, id) {
			return r.deny("the secret "+id, "secrets")
		}
	}
	return nil
}

// allow refuses an image that is not signed, or not encrypted, as the rule wants it.
func (r Rule) allow(ctx context.Context, img *image.Image) (err error) {
	if len(r.Keys) > 0 {
		err = img.SignedBy(ctx, r.Keys)
	}
	if err == nil && r.Encrypted && !img.Encrypted() {
		err = fmt.Errorf("checkpoint %s is not encrypted, or not all of it, and has to be, see lithify checkpoint --encrypt-to: %w", img.Name, errdefs.ErrPermissionDenied)
	}
	if err != nil && r.Name != "" {
		err = fmt.Errorf("rule %s of this machine's restore policy: %w", r.Name, err)
	}
	return err
}

// flagOf is the flag that lets what a field of a rule does.
var flagOf = map[string]string{
	"from": "--restore-from", "networks": "--restore-host-network and --restore-cni", "mounts": "--restore-mounts", "any_base": "--restore-key",
}

func (r Rule) deny(what, field string) error {
	if r.Name == "" {
		return fmt.Errorf("%s is not allowed on this machine (see lithify-worker %s): %w", what, flagOf[field], errdefs.ErrPermissionDenied)
	}
	return fmt.Errorf("%s is not allowed on this machine, by %s of rule %s of its restore policy: %w", what, field, r.Name, errdefs.ErrPermissionDenied)
}

// matches reports whether one of patterns, which are checked, is that of name.
func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		return ok && err == nil
	})
}

func (r Rule) from(ref string) bool {
	if slices.Contains(r.From, Everywhere) {
		return true
	}
	repository, err := registry.RepositoryName(ref)
	return err == nil && slices.ContainsFunc(r.From, func(from string) bool {
		return repository == from || strings.HasSuffix(from, "/") && strings.HasPrefix(repository, from)
	})
}

// mount finds the directory by which a container may have a file mounted, whose path is clean.
// The file has to be found within that: who writes there, as a container does that has had some
// of it mounted, may leave a link. The directory's own path, which the machine's owner has
// written, is followed wherever it leads, and no directory should lie where others write.
func (r Rule) mount(file string) (within string, ok bool) {
	for _, dir := range r.Mounts {
		dir = path.Clean(dir)
		if (dir == "/" || dir == file || strings.HasPrefix(file, dir+"/")) && (!ok || len(dir) < len(within)) {
			within, ok = dir, true
		}
	}
	if within == "/" || within == file {
		within = ""
	}
	return within, ok
}
