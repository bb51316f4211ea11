package convert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/containerd/platforms"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"golang.org/x/sync/errgroup"
)

var tracer = otel.Tracer("github.com/lithify/lithify/convert")

// Options say what to convert and how to publish it. The zero value converts
// the manifest of this machine's platform to raw EROFS in the legacy dialect and
// publishes it beside the originals.
type Options struct {
	Profile     erofs.Profile // default erofs.ProfileRaw
	Dialect     erofs.Dialect // default erofs.DialectLegacy
	Verity      bool          // see erofs.Options, as for InlineTails
	InlineTails bool
	// Platforms to convert; with none, this machine's. AllPlatforms converts
	// every Linux manifest instead. The rest passes through untouched.
	Platforms    []ocispec.Platform
	AllPlatforms bool
	// BlockCIM converts the manifests for Windows that are asked for, too, to block CIMs: by
	// Elsewhere, or here, which takes Windows and a program that calls cimfs.RunWriter.
	BlockCIM bool
	// MergedCIM makes of each of these the CIM, too, that joins its layers.
	MergedCIM bool
	// Replace publishes the EROFS manifests alone.
	Replace bool
	// InPlace permits the target to be the source's own tag.
	InPlace bool
	// BreakSignature permits an index that is signed or has referrers to be
	// superseded at its own tag by one that has not.
	BreakSignature bool

	// SourceTag is the full name of the tag that a source pinned to a digest was
	// found by; default Source.Name(). A target of that name is the source's own
	// tag, which needs InPlace and must still name the source.
	SourceTag string

	Limits erofs.Limits
	Verify Verify // default VerifyFull
	Ledger *Ledger
	// Elsewhere, if set, is asked to have layers converted by others, who enter
	// them in Ledger. Those that depend on the layers below are not among them.
	Elsewhere Elsewhere
	TempDir   string // default os.TempDir(); needs room for the layers in flight
	Parallel  int    // layers in flight; default runtime.GOMAXPROCS(0)

	Log *slog.Logger // default slog.Default()
	// Progress hears of every step. It is called from many goroutines and must
	// return at once.
	Progress func(Event)
	// Quiet, if set, is called where nothing will be heard for a while, at most bound long:
	// hcsshim writes a block CIM. end is called when it is over.
	Quiet func(ctx context.Context, bound time.Duration, why string) (end func())

	anyPlatform bool                         // no platform was named
	written     func(*os.File, *erofs.Layer) // of tests: what a writer at fault would do
}

func (o Options) withDefaults() Options {
	o.Profile = cmp.Or(o.Profile, erofs.ProfileRaw)
	o.Dialect = cmp.Or(o.Dialect, erofs.DialectLegacy)
	o.Parallel = cmp.Or(o.Parallel, runtime.GOMAXPROCS(0))
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if len(o.Platforms) == 0 && !o.AllPlatforms {
		o.anyPlatform = true
		p := platforms.DefaultSpec()
		p.OS = "linux"
		o.Platforms = []ocispec.Platform{p}
	}
	return o
}

// Event is a step of a conversion.
type Event struct {
	Layer digest.Digest // the source's layer or, when copying, blob
	// Phase is read while a commit reads a container, of which Done bytes of tar have
	// been made. It is convert, compress, push or copy while Done moves to Total, and one of
	// converted, reused, copied or failed at the end. In resolve, which has no end,
	// Done bytes have been read once more of the converted Layer, for the layers
	// above it. Work goes on where Done stays: no phase is silent for more than a few
	// MiB but while Source and Target wait.
	Phase  string
	Done   int64 // bytes
	Total  int64 // bytes
	Took   time.Duration
	Result *ocispec.Descriptor // the blob, of converted and reused
}

// Result tells what was published.
type Result struct {
	Source       string             `json:"source"`
	SourceDigest digest.Digest      `json:"sourceDigest"`
	Target       string             `json:"target"`
	Descriptor   ocispec.Descriptor `json:"descriptor"`
	// Unchanged says that the tag named this very digest before.
	Unchanged bool      `json:"unchanged"`
	Variants  []Variant `json:"variants"`
	Skipped   []Skipped `json:"skipped,omitempty"`
	// Kept is the digest the tag named before, kept under the tag KeptAs.
	Kept   digest.Digest `json:"kept,omitempty"`
	KeptAs string        `json:"keptAs,omitempty"`
}

// Variant is a manifest that was converted.
type Variant struct {
	Platform string        `json:"platform"`
	Source   digest.Digest `json:"source"`
	Digest   digest.Digest `json:"digest"`
	Layers   []Converted   `json:"layers"`
	// Files is how many a container sees, where that was compared (VerifyStack).
	Files  int       `json:"files,omitempty"`
	Merged *CIMLayer `json:"merged,omitempty"` // with Options.MergedCIM, if there are several layers
}

// Converted is one of its layers.
type Converted struct {
	Source digest.Digest `json:"source"`
	Key    digest.Digest `json:"key"` // of the LayerJob
	*erofs.Layer
	CIM *CIMLayer `json:"cim,omitempty"` // instead, of an image for Windows
	// Verified is of a layer that was compared with its tar (VerifyFull).
	Verified *Verified `json:"verified,omitempty"`
}

// Skipped is a manifest that passed through though it was asked for.
type Skipped struct {
	Digest   digest.Digest `json:"digest"`
	Platform string        `json:"platform"`
	Why      string        `json:"why"`
}

// conversion is one call of Image.
type conversion struct {
	src  Source
	dst  Target
	opts Options
	log  *slog.Logger

	ledgerOnly bool // dst is the ledger itself: see Layer

	mu     sync.Mutex
	layers map[digest.Digest]*layer // by LayerJob.Key
}

// Image converts src and publishes it to dst. It returns once the tag names the
// result. On an error the tag has not been moved; blobs may have been pushed
// that no manifest names, which a registry's garbage collector removes and a
// later attempt finds again.
func Image(ctx context.Context, src Source, dst Target, opts Options) (_ *Result, err error) {
	ctx, span := tracer.Start(ctx, "convert image")
	span.SetAttributes(attribute.String("lithify.source", src.Name()), attribute.String("lithify.target", dst.Name()))
	defer func() {
		if err != nil {
			span.RecordError(err)
		}
		span.End()
	}()
	opts = opts.withDefaults()
	opts.SourceTag = cmp.Or(opts.SourceTag, src.Name())
	if opts.Profile == erofs.ProfileIndex && opts.Dialect != erofs.DialectSpec {
		return nil, refused(dst.Name(), "profile %s has layers of a role that dialect %s knows nothing of: it takes dialect %s", opts.Profile, opts.Dialect, erofs.DialectSpec)
	}
	c := &conversion{src: src, dst: dst, opts: opts, log: opts.Log, layers: map[digest.Digest]*layer{}}

	g, err := readImage(ctx, src)
	if err != nil {
		return nil, err
	}
	p, err := c.plan(ctx, g)
	if err != nil {
		return nil, err
	}
	was, err := c.before(ctx, p)
	if err != nil {
		return nil, err
	}
	variants, err := c.convertAll(ctx, p)
	if err = errors.Join(err, c.close()); err != nil {
		return nil, err
	}
	return c.publish(ctx, p, variants, was)
}

// close gives back what looking into layers took.
func (c *conversion) close() error {
	var errs []error
	for _, l := range c.layers {
		if l.view != nil {
			errs = append(errs, l.view.close())
		}
	}
	return errors.Join(errs...)
}

// convertAll converts the layers of every selected manifest, each distinct one
// once, then those that the layers below make differ, and writes the manifests.
func (c *conversion) convertAll(ctx context.Context, p *plan) ([]*variant, error) {
	if err := c.convertLayers(ctx, p.tasks()); err != nil {
		return nil, err
	}
	var variants []*variant
	for _, m := range p.selected {
		convert := c.erofs
		if m.isWindows() {
			convert = c.windows
		}
		v, err := convert(ctx, m)
		if err != nil {
			return nil, err
		}
		variants = append(variants, v)
	}
	return variants, nil
}

// erofs is the variant of a manifest for Linux whose layers are converted.
func (c *conversion) erofs(ctx context.Context, m *manifest) (*variant, error) {
	layers, jobs, err := c.assemble(ctx, m)
	if err != nil {
		return nil, err
	}
	var made []*erofs.Layer
	var views stack
	for _, l := range layers {
		made, views = append(made, l.Layer), append(stack{l.view}, views...)
	}
	files, err := c.proveStack(ctx, views, jobs)
	if err != nil {
		return nil, err
	}
	v, err := makeEROFS(m, made, jobs, c.opts)
	if err != nil {
		return nil, err
	}
	v.files = files
	for i := range v.layers {
		v.layers[i].Verified = layers[i].proven
	}
	return v, nil
}

// convertLayers gets the tasks' layers: from others, and the rest by converting
// here, the largest first so that no long one starts when the others are through.
func (c *conversion) convertLayers(ctx context.Context, tasks []task) error {
	tasks, err := c.askElsewhere(ctx, tasks)
	if err != nil {
		return err
	}
	slices.SortStableFunc(tasks, func(a, b task) int { return cmp.Compare(b.desc.Size, a.desc.Size) })
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(c.opts.Parallel)
	for i, t := range tasks {
		// While there are layers enough to keep every core busy, one goroutine
		// a layer costs the least CPU.
		serial := len(tasks)-i >= c.opts.Parallel && c.opts.Parallel > 1
		eg.Go(func() error {
			l, err := c.run(ctx, t, serial)
			if err != nil {
				return err
			}
			c.found(t, l)
			return nil
		})
	}
	return eg.Wait()
}

// assemble gives the manifest's layers, bottom first, resolving what each needs
// from those below it.
func (c *conversion) assemble(ctx context.Context, m *manifest) ([]*layer, []LayerJob, error) {
	var below stack
	var layers []*layer
	var jobs []LayerJob
	for _, t := range c.tasksOf(m) {
		l, job, err := c.settle(ctx, t, below)
		if err != nil {
			return nil, nil, err
		}
		below = append(stack{l.view}, below...)
		layers, jobs = append(layers, l), append(jobs, job)
	}
	return layers, jobs, nil
}

// settle gives the task's layer as it has to be above the layers below, made of
// the tar that the config says.
func (c *conversion) settle(ctx context.Context, t task, below stack) (*layer, LayerJob, error) {
	l := c.layers[t.Key()]
	if len(below) > 0 || l.pending != nil {
		resolved, err := below.resolve(ctx, l.needs())
		if err != nil {
			return nil, t.LayerJob, fmt.Errorf("layer %s: %w", t.desc.Digest, err)
		}
		if resolved != nil {
			t.Context = resolved
			if l, err = c.inContext(ctx, t); err != nil {
				return nil, t.LayerJob, err
			}
		}
	}
	if l.TarDigest != t.diffID {
		return nil, t.LayerJob, refused(t.desc.Digest, "the tar's digest is %s and the config says %s", l.TarDigest, t.diffID)
	}
	return l, t.LayerJob, nil
}

// inContext gives the layer of a task that depends on the layers below.
func (c *conversion) inContext(ctx context.Context, t task) (*layer, error) {
	if l := c.layers[t.Key()]; l != nil {
		return l, nil
	}
	c.log.InfoContext(ctx, "layer depends on the layers below", "layer", t.desc.Digest, "dirs", len(t.Context.Dirs), "links", len(t.Context.Links))
	l, err := c.run(ctx, t, false)
	if err != nil {
		return nil, err
	}
	c.found(t, l)
	return l, nil
}

// found notes the layer of a task. It may be called from many goroutines.
func (c *conversion) found(t task, l *layer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.layers[t.Key()] = l
}

func (c *conversion) event(e Event) {
	if c.opts.Progress != nil {
		c.opts.Progress(e)
	}
}

// metered reports every read of r.
func (c *conversion) metered(r io.Reader, e Event) io.Reader { return &meter{r, c, e} }

type meter struct {
	io.Reader
	c *conversion
	e Event
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.e.Done += int64(n)
	m.c.event(m.e)
	return n, err
}
