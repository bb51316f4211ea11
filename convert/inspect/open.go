package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/platforms"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/overlay"
	"github.com/lithify/lithify/erofs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Options of Open; the zero value works.
type Options struct {
	// Platform is the variant's, or its original's; default this machine's, or that of the
	// only variant.
	Platform *ocispec.Platform
	TempDir  string // for layers that have to be fetched whole; default os.TempDir()
}

// Files are those of an EROFS variant, as a container sees them. They may be used from several
// goroutines.
type Files struct {
	overlay.FS
	Manifest convert.Manifest
	layers   []*layer             // topmost first
	descs    []ocispec.Descriptor // of these
}

// Close removes what was fetched whole.
func (f *Files) Close() error {
	var errs []error
	for _, l := range f.layers {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// Layer gives the layer that a file is seen in.
func (f *Files) Layer(file overlay.File) ocispec.Descriptor {
	return f.descs[file.Layers[0]]
}

// Open opens an EROFS variant in src, of any maker. ctx is that of all reading. The caller
// closes the Files.
func Open(ctx context.Context, src convert.Source, opts Options) (*Files, error) {
	m, err := opts.choose(ctx, src)
	if err != nil {
		return nil, err
	}
	return OpenManifest(ctx, src, *m, opts.TempDir)
}

// OpenManifest is Open of one manifest of src.
func OpenManifest(ctx context.Context, src convert.Source, m convert.Manifest, temp string) (*Files, error) {
	mounted, err := erofs.MountedOf(m.Layers)
	if err != nil {
		return nil, &convert.RefusedError{What: src.Name(), Why: err.Error()}
	}
	f := &Files{Manifest: m}
	for _, d := range slices.Backward(mounted) {
		l, err := openLayer(ctx, src, d, temp)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		f.descs = append(f.descs, d.Descriptor)
		f.layers = append(f.layers, l)
		f.FS = append(f.FS, l)
	}
	return f, nil
}

// choose finds the variant that is asked for.
func (o Options) choose(ctx context.Context, src convert.Source) (*convert.Manifest, error) {
	_, _, list, err := convert.Manifests(ctx, src)
	if err != nil {
		return nil, err
	}
	var variants []convert.Manifest
	var offered []string
	for _, m := range list {
		if m.IsEROFS() && m.Platform != nil {
			variants = append(variants, m)
			offered = append(offered, platforms.FormatAll(bare(*m.Platform)))
		}
	}
	if len(variants) == 0 {
		return nil, &convert.RefusedError{What: src.Name(), Why: "has no EROFS variant to look into; make one with lithify convert"}
	}
	if o.Platform == nil && len(variants) == 1 {
		return &variants[0], nil
	}
	here := platforms.DefaultSpec()
	here.OS = "linux"
	want := *cmp.Or(o.Platform, &here)
	for _, m := range variants {
		if platforms.OnlyStrict(want).Match(bare(*m.Platform)) {
			return &m, nil
		}
	}
	return nil, &convert.RefusedError{What: src.Name(), Why: fmt.Sprintf("has no EROFS variant for %s, but for %q; name one with --platform", platforms.FormatAll(want), offered)}
}

// bare is a platform without its features, of which all variants have the one.
func bare(p ocispec.Platform) ocispec.Platform {
	p.OSFeatures = nil
	return p
}
