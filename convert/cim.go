package convert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/zstd"
	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ProfileBlockCIM is the profile of layers of Windows images.
const ProfileBlockCIM erofs.Profile = "blockcim"

// CIMLayer is a layer of Windows as a block CIM, in a registry, or what joins those of an
// image. docs/blockcim.md says what manifests have of it.
type CIMLayer struct {
	*cimfs.Block
	Blob ocispec.Descriptor `json:"blob"` // the block, compressed
	// Hives are what the next layer's job needs of this one and of those below it; what joins
	// layers has none.
	Hives ocispec.Descriptor `json:"hives,omitzero"`
}

// descriptor is how a manifest names the layer.
func (l *CIMLayer) descriptor() ocispec.Descriptor {
	d := l.Blob
	d.Annotations = map[string]string{
		cimfs.AnnotationRootHash: l.RootHash,
		cimfs.AnnotationName:     l.Name,
		cimfs.AnnotationWriter:   l.Writer.String(),
	}
	if l.Layer != nil {
		d.Annotations[cimfs.AnnotationSource] = l.Layer.DiffID.String()
		d.Annotations[cimfs.AnnotationHives] = l.Hives.Digest.String()
	}
	return d
}

// cimTasks lists the layers of a manifest for Windows, base first. Each is named with the
// one below it: what a layer changes of the registry is merged with what that is there.
func (c *conversion) cimTasks(m *manifest) []task {
	tasks := c.tasksOf(m)
	for i := range tasks {
		tasks[i].Profile, tasks[i].Writer = ProfileBlockCIM, cimfs.WriterVersion
		tasks[i].Verity, tasks[i].InlineTails = false, false
		if i > 0 {
			tasks[i].Below = tasks[i-1].Key()
		}
	}
	return tasks
}

// windows converts a manifest for Windows, one layer after the other.
func (c *conversion) windows(ctx context.Context, m *manifest) (*variant, error) {
	w := &cimChain{conversion: c}
	defer w.close(ctx)
	var layers []*CIMLayer
	var keys []LayerJob
	tasks := c.cimTasks(m)
	for _, t := range tasks {
		l, err := w.layer(ctx, t)
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", t.desc.Digest, err)
		}
		if l.Layer.DiffID != t.diffID {
			return nil, refused(t.desc.Digest, "the tar's digest is %s and the config says %s", l.Layer.DiffID, t.diffID)
		}
		w.below = l
		layers, keys = append(layers, l), append(keys, t.LayerJob)
	}
	var merged *CIMLayer
	if c.opts.MergedCIM && len(layers) > 1 {
		var err error
		if merged, err = w.merged(ctx, tasks[len(tasks)-1], layers); err != nil {
			return nil, err
		}
	}
	return makeCIMVariant(m, layers, keys, merged)
}

// cimChain makes layers that lie on each other.
type cimChain struct {
	*conversion
	below *CIMLayer // the topmost so far

	dir   *cimDir
	chain *cimfs.Chain
	made  *CIMLayer // what chain made last
}

func (w *cimChain) close(ctx context.Context) {
	if w.dir != nil {
		w.drop(ctx, w.dir)
	}
	w.dir, w.chain = nil, nil
}

// drop removes a directory. It is worth no error if Windows does not let it go, as where a virus
// scanner looks into a file: whoever makes one next tries again.
func (c *conversion) drop(ctx context.Context, dir *cimDir) {
	if err := dir.remove(); err != nil {
		c.log.WarnContext(ctx, "directory of block CIMs is left for now", "dir", dir.path, "err", err)
	}
}

// layer gives the task's layer, present in the target: from the ledger, made by others, or
// made here.
func (w *cimChain) layer(ctx context.Context, t task) (*CIMLayer, error) {
	return w.obtain(ctx, t, w.make)
}

// obtain is layer, of what make makes.
func (w *cimChain) obtain(ctx context.Context, t task, make func(context.Context, task) (*CIMLayer, error)) (*CIMLayer, error) {
	ctx, span := tracer.Start(ctx, "block CIM")
	defer span.End()
	l, err := w.reuseCIM(ctx, t)
	if l == nil && err == nil && w.opts.Elsewhere != nil && w.opts.Ledger != nil && w.opts.Ledger.Key != nil {
		if _, err = w.opts.Elsewhere(ctx, []LayerTask{{t.LayerJob, t.desc.Size}}); err == nil {
			l, err = w.reuseCIM(ctx, t)
		}
	}
	if l == nil && err == nil {
		l, err = make(ctx, t)
	}
	if err != nil {
		span.RecordError(err)
	}
	return l, err
}

// cimLayer makes one layer into the ledger, which has that below it.
func (c *conversion) cimLayer(ctx context.Context, lt LayerTask) (*LayerResult, error) {
	t := task{LayerJob: lt.LayerJob, desc: ocispec.Descriptor{MediaType: lt.MediaType, Digest: lt.Source, Size: lt.Size}}
	w := &cimChain{conversion: c}
	defer w.close(ctx)
	var lower []*CIMLayer
	if t.Below != "" {
		var err error
		if lower, err = c.lowerCIMs(ctx, t.Below); err != nil {
			return nil, fmt.Errorf("layer %s: %w", t.Source, err)
		}
		w.below = lower[len(lower)-1]
	}
	make := w.make
	if t.Profile == ProfileMergedCIM {
		make = func(ctx context.Context, t task) (*CIMLayer, error) { return w.merge(ctx, t, lower) }
	}
	l, err := w.obtain(ctx, t, make)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", t.Source, err)
	}
	return &LayerResult{CIM: l}, nil
}

// lowerCIMs are the layers in the ledger up to that of a key, the base first. What they have of
// the registry goes into the next, so the source has to have the blobs of all, as it would for an
// image; that it does not lie the image's job has made sure of, which asks from the base upwards.
func (c *conversion) lowerCIMs(ctx context.Context, key digest.Digest) ([]*CIMLayer, error) {
	var all []*CIMLayer
	for n := 0; key != ""; n++ {
		r, ledger, err := c.opts.Ledger.get(ctx, key)
		if err != nil {
			return nil, err
		}
		if r == nil || r.Job.Profile != ProfileBlockCIM || n == maxLayers {
			return nil, fmt.Errorf("the ledger lacks the layer below, %s: %w", key, errdefs.ErrUnavailable)
		}
		has, err := c.src.Has(ctx, ocispec.Descriptor{MediaType: r.Job.MediaType, Digest: r.Job.Source})
		if err != nil {
			return nil, err
		}
		from := RegistryOf(c.src.Name())
		if !has || from == "" || from != RegistryOf(ledger.Name()) && !slices.Contains(r.Seen, from) {
			return nil, fmt.Errorf("%s has not been seen to have the layer below, %s: %w", c.src.Name(), r.Job.Source, errdefs.ErrPermissionDenied)
		}
		all = append(all, r.CIM)
		key = r.Job.Below
	}
	slices.Reverse(all)
	return all, nil
}

// reuseCIM is reuse, of a layer of Windows.
func (c *conversion) reuseCIM(ctx context.Context, t task) (*CIMLayer, error) {
	r, repo, err := c.lookIn(ctx, t)
	if r == nil || err != nil {
		return nil, err
	}
	for _, d := range r.blobs() {
		if err := transfer(ctx, repo, c.dst, d, c.copying(t, d.Size)); err != nil {
			c.log.WarnContext(ctx, "ledger's blob not usable", "layer", t.desc.Digest, "err", err)
			return nil, nil
		}
	}
	c.event(Event{Layer: t.desc.Digest, Phase: "reused", Done: t.desc.Size, Total: t.desc.Size, Result: &r.CIM.Blob})
	return r.CIM, nil
}

// make makes a layer on w.below, and pushes and enters it.
func (w *cimChain) make(ctx context.Context, t task) (*CIMLayer, error) {
	began := time.Now()
	if err := w.begin(ctx, t); err != nil {
		return nil, err
	}
	l, err := w.write(ctx, t)
	if err != nil {
		return nil, err
	}
	if err := w.push(ctx, t, l); err != nil {
		return nil, err
	}
	if err := w.enter(ctx, t, l); err != nil {
		return nil, err
	}
	w.made = l
	w.event(Event{Layer: t.desc.Digest, Phase: "converted", Done: t.desc.Size, Total: t.desc.Size, Took: time.Since(began), Result: &l.Blob})
	if !w.opts.MergedCIM { // merge reads it
		_ = os.Remove(l.Path) // nothing else needs it, and it may be large; at last it goes with the directory
	}
	return l, nil
}

// enter enters what was made into the ledger.
func (w *cimChain) enter(ctx context.Context, t task, l *CIMLayer) error {
	if err := w.opts.Ledger.put(ctx, w.dst, record{Job: t.LayerJob, CIM: l, Seen: []string{RegistryOf(w.src.Name())}}, w.copying(t, l.Blob.Size)); err != nil {
		if w.ledgerOnly {
			return err
		}
		w.log.WarnContext(ctx, "layer not entered in the ledger", "layer", t.desc.Digest, "err", err)
	}
	return nil
}

// begin has a chain ready that goes on above w.below.
func (w *cimChain) begin(ctx context.Context, t task) (err error) {
	if w.chain != nil && w.made == w.below {
		return nil
	}
	w.close(ctx)
	if w.dir, err = newCIMDir(cmp.Or(w.opts.TempDir, os.TempDir())); err != nil {
		return err
	}
	if w.below == nil {
		w.chain = cimfs.NewChain(w.dir.path)
		return nil
	}
	return ReadTar(ctx, w.dst, w.below.Hives, func(hives io.Reader) (err error) {
		w.chain, err = cimfs.Continue(w.dir.path, 1, hives)
		return err
	})
}

func (w *cimChain) write(ctx context.Context, t task) (*CIMLayer, error) {
	blob, err := w.open(ctx, t)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	tar, err := decompress(blob)
	if err != nil {
		return nil, w.blame(blob, err)
	}
	defer tar.Close()
	bounded := w.cimTar(ctx, tar)
	b, err := w.chain.Import(ctx, bounded)
	bounded.end()
	if errdefs.IsNotImplemented(err) {
		return nil, notHere(err)
	}
	if err != nil {
		return nil, w.blame(blob, err)
	}
	return &CIMLayer{Block: b}, blob.drain()
}

// notHere says who writes CIMs where this system does not.
func notHere(err error) error {
	return fmt.Errorf("%w: a pool with a worker on Windows makes them, see lithify submit convert --blockcim", err)
}

// push compresses and pushes a layer and its hives.
func (w *cimChain) push(ctx context.Context, t task, l *CIMLayer) (err error) {
	l.Blob, err = w.pushBlock(ctx, t, cimfs.MediaTypeLayerZstd, l.Block)
	if err == nil {
		l.Hives, err = w.pushCompressed(ctx, t, cimfs.MediaTypeHives+"+zstd", w.chain.WriteHives)
	}
	return err
}

func (c *conversion) pushBlock(ctx context.Context, t task, mediaType string, b *cimfs.Block) (ocispec.Descriptor, error) {
	return c.pushCompressed(ctx, t, mediaType, func(to io.Writer) error {
		f, err := os.Open(b.Path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(to, c.metered(f, Event{Layer: t.desc.Digest, Phase: "compress", Total: b.Size}))
		return err
	})
}

// pushCompressed pushes what write writes.
func (c *conversion) pushCompressed(ctx context.Context, t task, mediaType string, write func(io.Writer) error) (desc ocispec.Descriptor, err error) {
	f, err := TempFile(c.opts.TempDir)
	if err != nil {
		return desc, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := digest.Canonical.Digester()
	z, err := zstd.NewWriter(io.MultiWriter(f, sum.Hash()), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return desc, err
	}
	if err := errors.Join(write(z), z.Close()); err != nil {
		return desc, err
	}
	n, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return desc, err
	}
	desc = ocispec.Descriptor{MediaType: mediaType, Digest: sum.Digest(), Size: n}
	if has, err := c.dst.Has(ctx, desc); has || err != nil {
		return desc, err
	}
	return desc, c.dst.Push(ctx, desc, func() (io.ReadCloser, error) {
		return io.NopCloser(c.metered(io.NewSectionReader(f, 0, n), Event{Layer: t.desc.Digest, Phase: "push", Total: n})), nil
	})
}

// makeCIMVariant writes the manifest of block CIMs.
func makeCIMVariant(m *manifest, layers []*CIMLayer, keys []LayerJob, merged *CIMLayer) (*variant, error) {
	content := variantContent{feature: cimfs.OSFeature, profile: ProfileBlockCIM, writer: cimfs.WriterVersion}
	for _, l := range layers {
		content.diffIDs = append(content.diffIDs, l.Digest)
		content.layers = append(content.layers, l.descriptor())
	}
	if merged != nil {
		content.merge(merged)
	}
	v, err := makeVariant(m, content)
	if err != nil {
		return nil, err
	}
	v.merged = merged
	for i, l := range layers {
		v.layers = append(v.layers, Converted{Source: keys[i].Source, Key: keys[i].Key(), CIM: l})
	}
	return v, nil
}

// isWindows reports whether a selected manifest is for Windows.
func (m *manifest) isWindows() bool {
	p, err := m.platform()
	return err == nil && p.OS == "windows"
}

// linux are the manifests of a plan that become EROFS.
func (p *plan) linux() []*manifest {
	return slices.DeleteFunc(slices.Clone(p.selected), (*manifest).isWindows)
}
