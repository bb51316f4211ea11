package convert

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/platforms"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// CacheResult tells what a cache of layers has of an image.
type CacheResult struct {
	Source       string        `json:"source"`
	SourceDigest digest.Digest `json:"sourceDigest"`
	Dir          string        `json:"dir"`
	Layers       []CachedLayer `json:"layers"`
	Skipped      []Skipped     `json:"skipped,omitempty"`
}

// CachedLayer is a layer of the image. One that several platforms have is told of once.
type CachedLayer struct {
	Platform string        `json:"platform"`
	Source   digest.Digest `json:"source"` // the compressed blob
	DiffID   digest.Digest `json:"diffID"`
	State    string        `json:"state"`          // written, there (from before), or left out
	Why      string        `json:"why,omitempty"`  // of what was left out, or what to know of what is there
	File     string        `json:"file,omitempty"` // in the cache; of what is left out, if somebody else has put it there
	Size     int64         `json:"size,omitempty"` // in bytes
	Verified *Verified     `json:"verified,omitempty"`
}

// States of a CachedLayer.
const (
	CacheWritten = "written"
	CacheThere   = "there"
	CacheLeftOut = "left out"
)

// ExportCache converts the layers of src, for Linux, into a directory that containerd's EROFS
// snapshotter finds them in (layer_content_caches): DIR/sha256/XX/DIFFID.erofs, and with
// Options.Verity a .dmverity beside it. Of opts count Platforms, AllPlatforms, Verity, InlineTails,
// Limits, Verify, TempDir, Parallel, Log and Progress.
//
// The name of a file is the layer's diffID, so it has to serve wherever an image has the layer. One
// that is another layer over other layers is left out: that links to files below, or uses
// directories that it does not list. Most layers do not list their root: these are left out where
// that is not 0755 root:root below them. A file appears whole or not at all, and none is
// ever replaced or removed: a node may have it mounted. What is there is not made again. Elsewhere
// than on Linux it is an errdefs.ErrNotImplemented.
func ExportCache(ctx context.Context, src Source, dir string, opts Options) (_ *CacheResult, err error) {
	opts.Profile = erofs.ProfileRaw
	opts = opts.withDefaults()
	x := &cacheExport{
		conversion: &conversion{src: src, opts: opts, log: opts.Log, layers: map[digest.Digest]*layer{}},
		dir:        dir, made: map[digest.Digest]*cacheLayer{}, told: map[digest.Digest]bool{},
	}
	g, err := readImage(ctx, src)
	if err != nil {
		return nil, err
	}
	p, err := x.plan(ctx, g)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	unlock, err := lockCache(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, x.close(), unlock()) }()
	r := &CacheResult{Source: src.Name(), SourceDigest: g.root.desc.Digest, Dir: dir, Skipped: p.skipped}
	if err := x.makeAll(ctx, p.tasks()); err != nil {
		return nil, err
	}
	for _, m := range p.linux() {
		platform, err := m.platform()
		if err != nil {
			return nil, err
		}
		if err := x.settleAll(ctx, m, platform, r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// cacheExport is one call of ExportCache.
type cacheExport struct {
	*conversion
	dir  string
	made map[digest.Digest]*cacheLayer // by diffID
	told map[digest.Digest]bool        // what the result has of a layer
	open []io.Closer
}

// cacheLayer is a layer as it is in the cache, or may come to be.
type cacheLayer struct {
	CachedLayer
	view  *view
	file  *Scratch // until it has its name; nil: it is there
	layer *erofs.Layer
	needs erofs.Needs
}

func (x *cacheExport) close() error {
	var errs []error
	for _, o := range slices.Backward(x.open) {
		errs = append(errs, o.Close())
	}
	return errors.Join(errs...)
}

// path is where containerd looks for a layer: CacheBlobPath of its internal/erofsutils.
func (x *cacheExport) path(diffID digest.Digest) string {
	enc := diffID.Encoded()
	return filepath.Join(x.dir, diffID.Algorithm().String(), enc[:2], enc+".erofs")
}

// makeAll opens what is there and makes the rest, as it is without layers below.
func (x *cacheExport) makeAll(ctx context.Context, tasks []task) error {
	seen := map[digest.Digest]bool{}
	tasks = slices.DeleteFunc(tasks, func(t task) bool {
		was := seen[t.diffID]
		seen[t.diffID] = true
		return was
	})
	slices.SortStableFunc(tasks, func(a, b task) int { return cmp.Compare(b.desc.Size, a.desc.Size) })
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(x.opts.Parallel)
	for i, t := range tasks {
		serial := len(tasks)-i >= x.opts.Parallel && x.opts.Parallel > 1
		t.Bottom = false // the same layer is above others in other images
		eg.Go(func() error {
			l, err := x.find(t)
			switch {
			case err == nil && l == nil:
				l, err = x.makeOne(ctx, t, x.dir, serial)
			case err == nil && l.view == nil:
				err = x.lookAside(ctx, t, l, serial)
			}
			if err != nil {
				return fmt.Errorf("layer %s: %w", t.desc.Digest, err)
			}
			x.mu.Lock()
			defer x.mu.Unlock()
			x.made[t.diffID] = l
			return nil
		})
	}
	return eg.Wait()
}

// find opens a layer that the cache has, and gives nil where it has none.
func (x *cacheExport) find(t task) (*cacheLayer, error) {
	name := x.path(t.diffID)
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	x.keep(f)
	l := x.there(t)
	l.layer = &erofs.Layer{Digest: t.diffID}
	if l.view, err = fileView(f, l.layer); err != nil {
		l.Why = fmt.Sprintf("cannot be looked into here: %v", err)
	}
	return l, nil
}

// lookAside makes a layer that the cache has, and that cannot be looked into here, for those above
// it: containerd's own export may compress.
func (x *cacheExport) lookAside(ctx context.Context, t task, l *cacheLayer, serial bool) error {
	made, err := x.makeOne(ctx, t, x.opts.TempDir, serial)
	if err == nil {
		l.view, l.needs = made.view, made.needs
	}
	return err
}

// there describes a file that the cache has.
func (x *cacheExport) there(t task) *cacheLayer {
	l := &cacheLayer{CachedLayer: CachedLayer{Source: t.Source, DiffID: t.diffID, State: CacheThere, File: x.path(t.diffID)}}
	if info, err := os.Stat(l.File); err == nil {
		l.Size = info.Size()
	}
	if _, err := os.Stat(l.File + sidecarSuffix); x.opts.Verity && err != nil {
		l.Why = "without a dm-verity tree: it was made without, and may be in use"
	}
	return l
}

func (x *cacheExport) keep(c io.Closer) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.open = append(x.open, c)
}

// makeOne converts a layer into a file without a name in dir.
func (x *cacheExport) makeOne(ctx context.Context, t task, dir string, serial bool) (*cacheLayer, error) {
	l := &cacheLayer{CachedLayer: CachedLayer{Source: t.Source, DiffID: t.diffID, State: CacheWritten, File: x.path(t.diffID)}}
	f, err := TempFile(dir)
	if err != nil {
		return nil, err
	}
	x.keep(f)
	l.layer, err = x.unpack(ctx, t, func(in *unpacked) (made *erofs.Layer, err error) {
		made, l.Verified, err = x.write(ctx, t, in, x.writerOptions(t, in, serial), f)
		return made, err
	})
	if unresolved := (*erofs.UnresolvedError)(nil); errors.As(err, &unresolved) && t.Context == nil {
		l.needs = unresolved.Needs
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	if l.layer.TarDigest != t.diffID {
		return nil, refused(t.desc.Digest, "the tar's digest is %s and the config says %s", l.layer.TarDigest, t.diffID)
	}
	x.event(Event{Layer: t.desc.Digest, Phase: "converted", Done: t.desc.Size, Total: t.desc.Size, Result: &ocispec.Descriptor{Digest: l.layer.Digest, Size: l.layer.Size}})
	l.file, l.needs, l.Size = f, l.layer.Needs, l.layer.Size
	l.view, err = fileView(f, l.layer)
	return l, err
}

// fileView looks into an image in a file.
func fileView(f io.ReaderAt, l *erofs.Layer) (*view, error) {
	fsys, err := erofs.Open(f)
	if err != nil {
		return nil, err
	}
	v := &view{layer: l, image: f, meter: func(r io.Reader) io.Reader { return r }}
	v.once.Do(func() { v.meta = fsys })
	return v, nil
}

// settleAll gives the layers of a manifest that are the same over those below it their names.
func (x *cacheExport) settleAll(ctx context.Context, m *manifest, platform ocispec.Platform, r *CacheResult) error {
	var below stack
	for _, t := range x.tasksOf(m) {
		l := x.made[t.diffID]
		view, why, err := x.settle(ctx, t, l, below)
		if err != nil {
			return fmt.Errorf("layer %s: %w", t.desc.Digest, err)
		}
		below = append(stack{view}, below...)
		one := l.CachedLayer
		if why != "" {
			one.State, one.Why, one.Size, one.Verified = CacheLeftOut, why, 0, nil
			if _, err := os.Stat(one.File); err != nil {
				one.File = ""
			}
		} else if l.file != nil {
			if err := x.publish(l); err != nil {
				return err
			}
			l.file = nil
		}
		if key := digest.FromString(string(one.DiffID) + one.Why); !x.told[key] {
			x.told[key] = true
			one.Platform = platforms.FormatAll(platform)
			r.Layers = append(r.Layers, one)
		}
	}
	return nil
}

// settle gives what the layers above see of a layer. why says why it cannot be in a cache.
func (x *cacheExport) settle(ctx context.Context, t task, l *cacheLayer, below stack) (_ *view, why string, err error) {
	omitted := slices.IndexFunc(l.needs.Dirs, func(name string) bool { return name != "." })
	switch n := l.needs; {
	case len(n.Links) > 0:
		why = fmt.Sprintf("it has hard links to files of lower layers (%s)", n.Links[0])
	case n.RootNames:
		why = "it hides all of the layers below it, name by name"
	case omitted >= 0:
		why = fmt.Sprintf("it uses directories that it does not list, which are as the layers below have them (%s)", n.Dirs[omitted])
	}
	if why == "" && (len(below) == 0 || l.needs.IsZero()) {
		return l.view, "", nil
	}
	resolved, err := below.resolve(ctx, l.needs)
	if err != nil {
		return nil, "", err
	}
	if resolved == nil {
		return l.view, why, nil
	}
	if why == "" {
		why = "it does not list its root, which is not 0755 root:root in the layers below it"
	}
	t.Bottom, t.Context = false, resolved
	made, err := x.makeOne(ctx, t, x.opts.TempDir, false)
	if err != nil {
		return nil, "", err
	}
	return made.view, why, nil
}

// sidecarSuffix is MetadataPath of containerd's internal/dmverity.
const sidecarSuffix = ".dmverity"

// sidecar is its DmverityMetadata.
type sidecar struct {
	RootHash   string `json:"roothash"`
	HashOffset int64  `json:"hashoffset"`
}

// publish gives a layer its name, and before that one to what lies beside it: containerd goes by
// the layer.
func (x *cacheExport) publish(l *cacheLayer) error {
	at := filepath.Dir(l.File)
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	// Of a layer that is not there an export that was killed may have left it.
	if err := os.Remove(l.File + sidecarSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if v := l.layer.Verity; v != nil {
		if err := x.writeSidecar(l.File+sidecarSuffix, sidecar{v.RootDigest.Encoded(), v.HashOffset}); err != nil {
			return err
		}
	}
	return errors.Join(l.file.link(l.File), syncDir(at))
}

func (x *cacheExport) writeSidecar(name string, s sidecar) (err error) {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	f, err := TempFile(x.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(raw); err != nil {
		return err
	}
	return f.link(name)
}
