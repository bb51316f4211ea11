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
	// AnnotationProfile is the erofs.Profile of its layers, or ProfileBlockCIM.
	AnnotationProfile = "io.github.lithify.profile"
	// AnnotationWriter is the erofs.WriterVersion, or cimfs.WriterVersion, that made its layers.
	AnnotationWriter = "io.github.lithify.writer"
	// AnnotationTails is "inline" where the last bytes of files lie behind their inodes,
	// see erofs.Options.
	AnnotationTails = "io.github.lithify.tails"

	tailsInline = "inline"
)

// variant is a converted manifest, ready to be published.
type variant struct {
	source   *manifest
	platform ocispec.Platform // with the feature of its format
	manifest document
	config   document
	notes    map[string]string // of its entry in the index
	layers   []Converted
	devices  []ocispec.Descriptor // of erofs.ProfileIndex: the source's layers, which it has, too
	files    int                  // that a container sees, where they were compared
	merged   *CIMLayer            // what joins them, if anything does
}

// variantContent is what a variant has in the place of its source's layers.
type variantContent struct {
	diffIDs []digest.Digest
	layers  []ocispec.Descriptor
	feature string // of its platform
	profile erofs.Profile
	writer  string
	inline  bool // see AnnotationTails
	devices int  // of the layers
}

// makeEROFS writes manifest and config of m with layers of EROFS.
func makeEROFS(m *manifest, layers []*erofs.Layer, jobs []LayerJob, opts Options) (*variant, error) {
	content := variantContent{feature: erofs.OSFeature, profile: opts.Profile, writer: erofs.WriterVersion, inline: opts.InlineTails}
	for i, l := range layers {
		if opts.Profile == erofs.ProfileIndex {
			content.devices++
			content.diffIDs = append(content.diffIDs, l.TarDigest)
			content.layers = append(content.layers, erofs.Carrier(m.Layers[i]))
		}
		content.diffIDs = append(content.diffIDs, l.ImageDigest)
		content.layers = append(content.layers, opts.Dialect.Descriptor(l, i == len(layers)-1))
	}
	if len(content.layers) > maxLayers {
		return nil, refused(m.desc.Digest, "%d layers and as many of %s are too many (the limit is %d)", len(layers), opts.Profile, maxLayers)
	}
	v, err := makeVariant(m, content)
	if err != nil {
		return nil, err
	}
	if content.devices > 0 {
		v.devices = m.Layers
	}
	for i, l := range layers {
		v.layers = append(v.layers, Converted{Source: jobs[i].Source, Key: jobs[i].Key(), Layer: l})
	}
	return v, nil
}

// makeVariant writes manifest and config of m with its layers replaced. The
// config keeps every field that it had but the two that describe the layers.
func makeVariant(m *manifest, content variantContent) (*variant, error) {
	platform, err := m.platform()
	if err != nil {
		return nil, err
	}
	platform.OSFeatures = withFeature(platform.OSFeatures, content.feature)
	config, err := rewriteConfig(m.config, content)
	if err != nil {
		return nil, err
	}
	notes := map[string]string{
		AnnotationSource:  m.desc.Digest.String(),
		AnnotationProfile: string(content.profile),
		AnnotationWriter:  content.writer,
	}
	if content.inline {
		notes[AnnotationTails] = tailsInline
	}
	annotations := maps.Clone(m.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	maps.Copy(annotations, notes)
	raw, err := encode(ocispec.Manifest{
		Versioned:   schemaVersion,
		MediaType:   ocispec.MediaTypeImageManifest,
		Config:      config.desc,
		Layers:      content.layers,
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
		notes:    notes,
	}, nil
}

// entry is how the index names the variant.
func (v *variant) entry() ocispec.Descriptor {
	d := v.manifest.desc
	d.Platform = &v.platform
	d.Annotations = maps.Clone(v.notes)
	return d
}

func rewriteConfig(config document, content variantContent) (*document, error) {
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
	if n := len(content.diffIDs) - content.devices; len(old.RootFS.DiffIDs) != n {
		return nil, refused(config.desc.Digest, "the config lists %d layers and the manifest %d", len(old.RootFS.DiffIDs), n)
	}
	var err error
	if fields["rootfs"], err = encode(ocispec.RootFS{Type: "layers", DiffIDs: content.diffIDs}); err != nil {
		return nil, err
	}
	if fields["os.features"], err = encode(withFeature(old.OSFeatures, content.feature)); err != nil {
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
	for _, d := range c.RootFS.DiffIDs {
		if err := d.Validate(); err != nil {
			return nil, refused(m.config.desc.Digest, "the config says that a layer's diffID is %q: %v", d, err)
		}
	}
	return c.RootFS.DiffIDs, nil
}

func withFeature(features []string, feature string) []string {
	out := append(slices.Clone(features), feature)
	slices.Sort(out)
	return slices.Compact(out)
}
