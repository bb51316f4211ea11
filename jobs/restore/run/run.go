// Package run handles jobs of the kind restore. `lithify restore` calls the same handler
// without a queue.
package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/jobs"
	convertjob "github.com/lithify/lithify/jobs/convert"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	restorejob "github.com/lithify/lithify/jobs/restore"
	"github.com/lithify/lithify/restore"
	"github.com/lithify/lithify/restore/encrypt"
	"github.com/lithify/lithify/restore/health"
)

// Handler restores checkpoints in a containerd on this machine. Convert says how
// registries are reached.
type Handler struct {
	Convert convertrun.Handler
	Address string // of containerd; default stack.DefaultAddress
	Root    string // default restore.DefaultRoot
	Policy  Policy
	CNI     restore.CNI
	Cache   int64        // bytes; default restore.DefaultCache
	Decrypt encrypt.Keys // of checkpoints that are encrypted
	// Secret gives the file of a secret; nil: there are none.
	Secret func(id string) (file string, err error)
}

// Register makes h the handler of its kind, on a worker that has a containerd.
func (h Handler) Register(m *jobs.Mux) {
	jobs.Handle(m, func(ctx context.Context, a restorejob.Args) (any, error) {
		if err := h.Convert.CheckFiles(a, a.Source); err != nil {
			return nil, jobs.Permanent(err)
		}
		r, err := h.Run(ctx, a)
		if errdefs.IsPermissionDenied(err) {
			return r, jobs.Permanent(err)
		}
		return r, convertrun.ClassifyHere(err)
	})
}

// Run restores one checkpoint, for the job in ctx, if there is one. Its errors have an
// errdefs kind each.
func (h Handler) Run(ctx context.Context, a restorejob.Args) (*restore.Result, error) {
	r, err := h.run(ctx, a)
	return r, convertrun.WithKind(err)
}

func (h Handler) run(ctx context.Context, a restorejob.Args) (_ *restore.Result, err error) {
	rule, err := h.Policy.check(ctx, a)
	if err != nil {
		return nil, err
	}
	secrets, err := h.secrets(a.Secrets)
	if err != nil {
		return nil, err
	}
	src, err := h.Convert.Open(convertjob.Pinned(a.Source, a.SourceDigest), a.Insecure)
	if err != nil {
		return nil, err
	}
	d, err := stack.Dial(h.Address, a.Namespace)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	r, err := restore.Container(ctx, d, src, restore.Options{
		Name:        a.Name,
		Snapshotter: a.Snapshotter,
		Network:     restore.Network(a.Network),
		CNI:         h.CNI,
		Hostname:    a.Hostname,

		TCPClose:       a.TCPClose,
		TCPEstablished: a.TCPEstablished,

		Mounts:  rule.mounts(a.Mounts),
		Clone:   a.Clone,
		Env:     a.Env,
		Secrets: secrets,
		Refresh: a.Refresh,
		Signal:  a.Signal,
		Check:   check(a.Check),
		Alive:   func(n int64) { jobs.Alive(ctx, n) },
		Quiet:   func(bound time.Duration, why string) func() { return jobs.Quiet(ctx, bound, why) },
		Base:    a.Base,
		Allow:   rule.allow,
		Decrypt: h.Decrypt,

		LocalFor: rule.localFor(ctx),

		Open:    func(image string) (convert.Source, error) { return h.Convert.Open(image, a.Insecure) },
		Root:    h.Root,
		Cache:   h.Cache,
		Timeout: a.Limit,
		Job:     string(jobs.IDOf(ctx)),
	})
	if err == nil && r.Local != "" {
		cmp.Or(h.Convert.Log, slog.Default()).WarnContext(ctx, "local copy restored", "checkpoint", r.Checkpoint, "registry", r.Local)
		jobs.Event(ctx, "local copy restored", "registry", r.Local)
	}
	return r, err
}

// localFor is who may have a copy of the machine's.
func (r Rule) localFor(ctx context.Context) string {
	if !r.LocalCopy {
		return ""
	}
	return jobs.TenantOf(ctx)
}

func (h Handler) secrets(ids []string) (all []restore.Secret, err error) {
	for _, id := range ids {
		if h.Secret == nil {
			return nil, fmt.Errorf("secret %s: this worker has none, see lithify-worker --restore-secrets: %w", id, errdefs.ErrNotFound)
		}
		file, err := h.Secret(id)
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", id, err)
		}
		all = append(all, restore.Secret{ID: id, File: file})
	}
	return all, nil
}

func check(given *restorejob.Check) *health.Check {
	if given == nil {
		return nil
	}
	c := health.Check(*given)
	return &c
}

// mounts are those of a job that the rule lets.
func (r Rule) mounts(given []restorejob.Mount) (mounts []restore.Mount) {
	for _, m := range given {
		source := path.Clean(m.Source)
		within, _ := r.mount(source)
		mounts = append(mounts, restore.Mount{Source: source, Target: m.Target, ReadOnly: m.ReadOnly, Within: within})
	}
	return mounts
}
