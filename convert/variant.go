package convert

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/containerd/platforms"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Annotations on a variant's manifest and on its entry in the index. Ours are
// known by them: converting again replaces what carries AnnotationSource and
// touches nothing else.
const (
	// AnnotationSource is the digest of the manifest the variant was made from.
	AnnotationSource = "io.github.lithify.source"
	// AnnotationProfile is the erofs.Profile of its layers.
	AnnotationProfile = "io.github.lithify.profile"
	// AnnotationWriter is the erofs.WriterVersion that made its layers.
	AnnotationWriter = "io.github.lithify.writer"
)

// variant is a converted manifest, ready to be published.
type variant struct {
	source   *manifest
	platform ocispec.Platform // with the erofs feature
	manifest document
	config   document
	layers   []*erofs.Layer
	jobs     []LayerJob // one a layer
}

// makeVariant writes manifest and config of m with its layers replaced. The
// config keeps every field that it had but the two that describe the layers.
func makeVariant(m *manifest, layers []*erofs.Layer, opts Options) (*variant, error) {
	platform, err := m.platform()
	if err != nil {
		return nil, err
	}
	platform.OSFeatures = withFeature(platform.OSFeatures)
	diffIDs := make([]digest.Digest, len(layers))
	descs := make([]ocispec.Descriptor, len(layers))
	for i, l := range layers {
		diffIDs[i] = l.ImageDigest
		descs[i] = opts.Dialect.Descriptor(l, i == len(layers)-1)
	}
	config, err := rewriteConfig(m.config, diffIDs)
	if err != nil {
		return nil, err
	}
	annotations := maps.Clone(m.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	maps.Copy(annotations, ourAnnotations(m.desc.Digest, opts))
	raw, err := encode(ocispec.Manifest{
		Versioned:   schemaVersion,
		MediaType:   ocispec.MediaTypeImageManifest,
		Config:      config.desc,
		Layers:      descs,
		Annotations: annotations,
	})
	if err != nil {
		return nil, err
	}
	return &variant{
		source:   m,
		platform: platforms.Normalize(platform),
		manifest: document{Describe(ocispec.MediaTypeImageManifest, raw), raw},
		config:   *config,
	}, nil
}

// entry is how the index names the variant.
func (v *variant) entry(opts Options) ocispec.Descriptor {
	d := v.manifest.desc
	d.Platform = &v.platform
	d.Annotations = ourAnnotations(v.source.desc.Digest, opts)
	return d
}

func ourAnnotations(source digest.Digest, opts Options) map[string]string {
	return map[string]string{
		AnnotationSource:  source.String(),
		AnnotationProfile: string(opts.Profile),
		AnnotationWriter:  erofs.WriterVersion,
	}
}

func rewriteConfig(config document, diffIDs []digest.Digest) (*document, error) {
	fields := map[string]json.RawMessage{}
	if err := decode(config.raw, config.desc, &fields); err != nil {
		return nil, err
	}
	var old struct {
		RootFS     ocispec.RootFS `json:"rootfs"`
		OSFeatures []string       `json:"os.features"`
	}
	if err := decode(config.raw, config.desc, &old); err != nil {
		return nil, err
	}
	if len(old.RootFS.DiffIDs) != len(diffIDs) {
		return nil, refused(config.desc.Digest, "the config lists %d layers and the manifest %d", len(old.RootFS.DiffIDs), len(diffIDs))
	}
	var err error
	if fields["rootfs"], err = encode(ocispec.RootFS{Type: "layers", DiffIDs: diffIDs}); err != nil {
		return nil, err
	}
	if fields["os.features"], err = encode(withFeature(old.OSFeatures)); err != nil {
		return nil, err
	}
	raw, err := encode(fields)
	if err != nil {
		return nil, err
	}
	return &document{Describe(ocispec.MediaTypeImageConfig, raw), raw}, nil
}

// diffIDs are the digests of the source's uncompressed layers, by its config.
func (m *manifest) diffIDs() ([]digest.Digest, error) {
	var c ocispec.Image
	if err := decode(m.config.raw, m.config.desc, &c); err != nil {
		return nil, err
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return nil, refused(m.config.desc.Digest, "the config lists %d layers and the manifest %d", len(c.RootFS.DiffIDs), len(m.Layers))
	}
	return c.RootFS.DiffIDs, nil
}

func withFeature(features []string) []string {
	out := append(slices.Clone(features), erofs.OSFeature)
	slices.Sort(out)
	return slices.Compact(out)
}
