package convert

import (
	"context"
	"slices"

	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Pair is a variant and the manifest that it was made from.
type Pair struct {
	Platform        ocispec.Platform // the variant's
	Variant, Source ocispec.Descriptor
	Config          ocispec.Descriptor   // the variant's
	Layers          []ocispec.Descriptor // the variant's
	// What it was made with. Of a manifest that says so wrongly they are wrong.
	Profile     erofs.Profile
	Dialect     erofs.Dialect
	Verity      bool
	InlineTails bool
	Writer      string
}

// Pairs finds the variants in an image that this package has made, with the manifests
// that they were made from. These are in originals, or in src itself if that is nil.
func Pairs(ctx context.Context, src, originals Source) (pairs []Pair, err error) {
	made, err := readImage(ctx, src)
	if err != nil {
		return nil, err
	}
	from, where := made, src
	if originals != nil {
		where = originals
		if from, err = readImage(ctx, originals); err != nil {
			return nil, err
		}
	}
	for _, m := range made.all() {
		dgst, ok := m.Annotations[AnnotationSource]
		if !ok {
			continue
		}
		source := from.find(digest.Digest(dgst))
		if source == nil {
			return nil, refused(src.Name(), "its variant %s was made from %s, which is not in %s", m.desc.Digest, dgst, where.Name())
		}
		if err := m.readConfig(ctx, src); err != nil {
			return nil, err
		}
		platform, err := m.platform()
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, Pair{
			Platform: platform, Variant: m.desc, Source: source.desc, Config: m.Config, Layers: m.Layers,
			Profile: erofs.Profile(m.Annotations[AnnotationProfile]), Dialect: m.dialect(), Verity: m.verity(), InlineTails: m.Annotations[AnnotationTails] == tailsInline, Writer: m.Annotations[AnnotationWriter],
		})
	}
	if len(pairs) == 0 {
		return nil, refused(src.Name(), "has no variant that lithify made")
	}
	return pairs, nil
}

func readImage(ctx context.Context, src Source) (*graph, error) {
	root, err := src.Root(ctx)
	if err != nil {
		return nil, err
	}
	return readGraph(ctx, src, root)
}

// all are the manifests of a graph, inner ones too.
func (g *graph) all() []*manifest { return slices.Concat(g.manifests, g.inner) }

func (g *graph) find(dgst digest.Digest) *manifest {
	for _, m := range g.all() {
		if m.desc.Digest == dgst {
			return m
		}
	}
	return nil
}

// dialect is the one that has the media types of a variant's layers.
func (m *manifest) dialect() erofs.Dialect {
	if n := len(m.Layers); n > 0 && m.Layers[n-1].MediaType == erofs.DialectSpec.MediaType(erofs.Profile(m.Annotations[AnnotationProfile])) {
		return erofs.DialectSpec
	}
	return erofs.DialectLegacy
}

// verity reports whether a variant's layers have dm-verity trees.
func (m *manifest) verity() bool {
	return slices.ContainsFunc(m.Layers, func(l ocispec.Descriptor) bool { return l.Annotations[erofs.AnnotationVerityRootDigest] != "" })
}
