package convert

import (
	"context"

	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Manifest is one manifest of an image, as its source has it.
type Manifest struct {
	Descriptor ocispec.Descriptor // as the index, or the reference, names it
	ocispec.Manifest
	// Platform is the index's word or else the config's; nil of what is no image.
	Platform *ocispec.Platform
	// DiffIDs are the config's; nil of what is no image. They may be other in number than
	// Layers.
	DiffIDs []digest.Digest
	// Source is the manifest that a variant of lithify's was made from, else empty.
	Source digest.Digest
	// Inner says that it lies in an index within the index.
	Inner bool
}

// IsEROFS reports whether m is an EROFS variant, of whatever maker.
func (m Manifest) IsEROFS() bool {
	return (&manifest{document: document{desc: m.Descriptor}, Manifest: m.Manifest}).isEROFS()
}

// Profile is what the manifest's annotation says of a variant of lithify's, else empty.
func (m Manifest) Profile() erofs.Profile { return erofs.Profile(m.Annotations[AnnotationProfile]) }

// Manifests reads every manifest of src and the configs of those that are images, in the
// index's order. The root is what src names; index is nil where that is a manifest. What
// cannot be an image is a [RefusedError].
func Manifests(ctx context.Context, src Source) (root ocispec.Descriptor, index *ocispec.Index, list []Manifest, err error) {
	g, err := readImage(ctx, src)
	if err != nil {
		return root, nil, nil, err
	}
	for i, m := range g.all() {
		one := Manifest{Descriptor: m.desc, Manifest: m.Manifest, Source: m.source(), Inner: i >= len(g.manifests)}
		if m.isImage() {
			if err := one.readConfig(ctx, src, m); err != nil {
				return root, nil, nil, err
			}
		}
		list = append(list, one)
	}
	return g.root.desc, g.index, list, nil
}

func (o *Manifest) readConfig(ctx context.Context, src Source, m *manifest) error {
	if err := m.readConfig(ctx, src); err != nil {
		return err
	}
	platform, err := m.platform()
	if err != nil {
		return err
	}
	var c ocispec.Image
	if err := decode(m.config.raw, m.config.desc, &c); err != nil {
		return err
	}
	o.Platform, o.DiffIDs = &platform, c.RootFS.DiffIDs
	return nil
}
