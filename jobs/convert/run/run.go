// Package run handles jobs of the kind convert. `lithify convert` calls the same
// handler without a queue.
package run

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/jobs"
	convertjob "github.com/lithify/lithify/jobs/convert"
	layerjob "github.com/lithify/lithify/jobs/layer"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Handler converts images. The zero value works: credentials of the Docker
// configuration, temporary files in os.TempDir, no ledger entries made.
type Handler struct {
	Keychain    authn.Keychain
	DenyPrivate bool   // refuse registries at private addresses
	AllowFiles  bool   // let sources and targets be files of this machine
	TempDir     string // needs room for the layers in flight
	Parallel    int    // layers in flight for each image
	// Limiter shares the requests that registries bear with the workers of a pool.
	Limiter registry.Limiter
	// Spread has the layers of an image converted by jobs of their own, where there
	// is a SigningKey to enter them in the ledger: for workers of a pool.
	Spread bool

	SigningKey ed25519.PrivateKey  // signs ledger records, and the provenance of builds
	Trusted    []ed25519.PublicKey // whose ledger records are believed

	Log      *slog.Logger
	Progress func(convert.Event)
}

// Register makes h the handler of its kind.
func (h Handler) Register(m *jobs.Mux) {
	jobs.Handle(m, func(ctx context.Context, a convertjob.Args) (any, error) {
		r, err := h.Run(ctx, a)
		return r, Classify(err)
	})
}

// Run converts one image. It reports to the job in ctx, if there is one. Its
// errors have an errdefs kind each, for readers that do not know convert's types:
// what is refused is an ErrInvalidArgument, and a target that was moved or must
// not be moved is an ErrAborted.
func (h Handler) Run(ctx context.Context, a convertjob.Args) (*convert.Result, error) {
	r, err := h.run(ctx, a)
	return r, WithKind(err)
}

func (h Handler) run(ctx context.Context, a convertjob.Args) (*convert.Result, error) {
	if err := h.CheckFiles(a, a.Source, a.Target); err != nil {
		return nil, err
	}
	dst, opts, err := h.Output(ctx, a.Output)
	if err != nil {
		return nil, err
	}
	if err := selectPlatforms(&opts, a); err != nil {
		return nil, err
	}
	opts.InPlace, opts.BlockCIM, opts.MergedCIM = a.InPlace, a.BlockCIM, a.BlockCIMMerged
	ends := h.ends(a.Insecure)
	src, err := h.source(ctx, a, ends)
	if err != nil {
		return nil, err
	}
	if tagged := convertjob.Unpinned(a.Source); tagged != sourceRef(a) { // opening an archive may read all of it
		tag, err := open(ctx, tagged, ends)
		if err != nil {
			return nil, err
		}
		opts.SourceTag = tag.Name()
	}
	if opts.Ledger != nil {
		opts.Elsewhere = h.elsewhere(a, ledgerIn(dst.Name(), a.LedgerRepo))
	}
	return convert.Image(ctx, src, dst, opts)
}

// CheckFiles refuses a job that names files where they are not allowed.
func (h Handler) CheckFiles(job fmt.Stringer, refs ...string) error {
	if h.AllowFiles || !slices.ContainsFunc(refs, convertjob.IsFile) {
		return nil
	}
	return &convert.RefusedError{What: job.String(), Why: "names files, and this worker serves registries only (see lithify-worker --allow-files)"}
}

// Output opens the target that o names and says how to convert for it. Progress goes to
// the job in ctx, if there is one, and to h.Progress.
func (h Handler) Output(ctx context.Context, o convertjob.Output) (convert.Target, convert.Options, error) {
	opts := convert.Options{
		Profile:        erofs.Profile(o.Profile),
		Dialect:        erofs.Dialect(o.Dialect),
		Verity:         o.Verity,
		InlineTails:    o.InlineTails,
		Replace:        o.Replace,
		BreakSignature: o.BreakSignature,
		Limits:         limits(o.Limits),
		Verify:         convert.Verify(o.Verify),
		TempDir:        h.TempDir,
		Parallel:       h.Parallel,
		Log:            h.Log,
		Progress:       report(ctx, h.Progress),
		Quiet:          jobs.Quiet,
	}
	dst, err := h.Create(o.Target, o.Insecure)
	if err != nil {
		return nil, opts, err
	}
	if repo := ledgerIn(dst.Name(), o.LedgerRepo); repo != "" {
		opts.Ledger = h.ledger(repo, o.Insecure)
	}
	return dst, opts, nil
}

// source opens what the job was submitted for, whatever its tag names now.
func (h Handler) source(ctx context.Context, a convertjob.Args, ends registry.Options) (convert.Source, error) {
	src, err := open(ctx, sourceRef(a), ends)
	if err != nil || a.SourceDigest == "" {
		return src, err
	}
	root, err := src.Root(ctx)
	if err != nil {
		return nil, err
	}
	if root.Digest != a.SourceDigest {
		return nil, &convert.RefusedError{What: a.Source, Why: fmt.Sprintf("is %s now and was %s when the job was submitted; submit it again", root.Digest, a.SourceDigest)}
	}
	return src, nil
}

// openTimeout is as long as a docker-archive may take whose layers are compressed:
// they are read to know their digests. Nothing can end it.
const openTimeout = 15 * time.Minute

func open(ctx context.Context, ref string, ends registry.Options) (convert.Source, error) {
	defer jobs.Quiet(ctx, openTimeout, "opening "+ref)()
	return registry.Open(ref, ends)
}

// Resolve asks what a source reference names now.
func (h Handler) Resolve(ctx context.Context, a convertjob.Args) (ocispec.Descriptor, error) {
	src, err := registry.Open(a.Source, h.ends(a.Insecure))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return src.Root(ctx)
}

// Create opens a place of a registry or layout to write to.
func (h Handler) Create(ref string, insecure bool) (convert.Target, error) {
	return registry.Create(ref, h.ends(insecure))
}

// Open opens an image of a registry to read.
func (h Handler) Open(ref string, insecure bool) (convert.Source, error) {
	return registry.Open(ref, h.ends(insecure))
}

// Manage opens a repository of a registry to list and to delete what is in it.
func (h Handler) Manage(ref string, insecure bool) (*registry.Repository, error) {
	return registry.Manage(ref, h.ends(insecure))
}

func (h Handler) ends(insecure bool) registry.Options {
	return registry.Options{Insecure: insecure, Keychain: h.Keychain, DenyPrivate: h.DenyPrivate, Limiter: h.Limiter, Quiet: jobs.Quiet}
}

func selectPlatforms(opts *convert.Options, a convertjob.Args) error {
	opts.AllPlatforms = a.AllPlatforms
	for _, s := range a.Platforms {
		p, err := platforms.Parse(s)
		if err != nil {
			return fmt.Errorf("platform %q: %w", s, err)
		}
		opts.Platforms = append(opts.Platforms, p)
	}
	return nil
}

func limits(l layerjob.Limits) erofs.Limits {
	return erofs.Limits{Bytes: l.Bytes, FileBytes: l.FileBytes, Entries: l.Entries, PAXBytes: l.PAXBytes, MetaBytes: l.MetaBytes}
}

// report tells the job what the conversion says: bytes that moved are proof of
// life, ends of layers are history.
func report(ctx context.Context, also func(convert.Event)) func(convert.Event) {
	moved := newMileage()
	return func(e convert.Event) {
		switch e.Phase {
		case "converted", "reused":
			jobs.Event(ctx, "layer "+e.Phase, "layer", e.Layer, "size", e.Total, "blob", e.Result.Digest, "blobSize", e.Result.Size, "took", e.Took.Round(time.Millisecond))
		case "copied":
			jobs.Event(ctx, "blob copied", "blob", e.Layer, "size", e.Total)
		default:
			jobs.Alive(ctx, moved.since(e))
		}
		if also != nil {
			also(e)
		}
	}
}

// mileage knows how far each phase of each layer was when last heard of.
type mileage struct {
	mu   sync.Mutex
	done map[string]int64
}

func newMileage() *mileage { return &mileage{done: map[string]int64{}} }

// since is how many bytes have moved since the last event of this phase; a
// second attempt at an upload starts from the beginning.
func (m *mileage) since(e convert.Event) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := e.Phase + string(e.Layer)
	n := e.Done - m.done[key]
	m.done[key] = e.Done
	return max(n, 0)
}
