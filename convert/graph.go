package convert

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Limits on the shape of an image, far above any that is in use.
const (
	maxEntries = 1000 // manifests in one index
	maxLayers  = 500  // layers in one manifest
	maxDepth   = 2    // an index may hold indexes, and they nothing but manifests
)

// Docker's schema 1, which carries no digests of its layers' contents.
const (
	mediaTypeSchema1       = "application/vnd.docker.distribution.manifest.v1+json"
	mediaTypeSchema1Signed = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// document is a manifest, index or config as it was received.
type document struct {
	desc ocispec.Descriptor
	raw  []byte
}

// manifest is one image manifest of the source.
type manifest struct {
	document
	ocispec.Manifest
	config document // read for candidates only
}

// graph is a source image as far as it must be known: its root, and below it
// every document in the order they were found.
type graph struct {
	root      document
	index     *ocispec.Index // nil where the source is a single manifest
	manifests []*manifest    // direct children, or the root itself
	nested    []document     // indexes below the root, passed through
	inner     []*manifest    // their manifests
}

// readGraph reads every document of an image but the configs, and refuses what
// cannot be an image.
func readGraph(ctx context.Context, src Source, root ocispec.Descriptor) (*graph, error) {
	raw, err := fetchAll(ctx, src, root)
	if err != nil {
		return nil, err
	}
	g := &graph{root: document{root, raw}}
	switch {
	case root.MediaType == mediaTypeSchema1 || root.MediaType == mediaTypeSchema1Signed:
		return nil, refused(src.Name(), "is a Docker schema 1 image; rebuild or re-push it as schema 2 or OCI")
	case images.IsIndexType(root.MediaType):
		return g, g.readIndex(ctx, src)
	case images.IsManifestType(root.MediaType):
		m, err := parseManifest(g.root)
		if err != nil {
			return nil, err
		}
		g.manifests = []*manifest{m}
		return g, nil
	}
	return nil, refused(src.Name(), "media type %q is neither an image manifest nor an index", root.MediaType)
}

func (g *graph) readIndex(ctx context.Context, src Source) error {
	seen := map[digest.Digest]bool{g.root.desc.Digest: true}
	index, err := parseIndex(g.root)
	if err != nil {
		return err
	}
	g.index = index
	for _, desc := range index.Manifests {
		if images.IsIndexType(desc.MediaType) {
			if err := g.readNested(ctx, src, desc, seen, 1); err != nil {
				return err
			}
			continue
		}
		m, err := readManifest(ctx, src, desc)
		if err != nil {
			return err
		}
		g.manifests = append(g.manifests, m)
	}
	return nil
}

func (g *graph) readNested(ctx context.Context, src Source, desc ocispec.Descriptor, seen map[digest.Digest]bool, depth int) error {
	if seen[desc.Digest] {
		return refused(src.Name(), "index %s appears in itself or twice", desc.Digest)
	}
	if depth > maxDepth {
		return refused(src.Name(), "indexes nest deeper than %d", maxDepth)
	}
	seen[desc.Digest] = true
	raw, err := fetchAll(ctx, src, desc)
	if err != nil {
		return err
	}
	doc := document{desc, raw}
	index, err := parseIndex(doc)
	if err != nil {
		return err
	}
	for _, d := range index.Manifests {
		if images.IsIndexType(d.MediaType) {
			if err := g.readNested(ctx, src, d, seen, depth+1); err != nil {
				return err
			}
			continue
		}
		m, err := readManifest(ctx, src, d)
		if err != nil {
			return err
		}
		g.inner = append(g.inner, m)
	}
	g.nested = append(g.nested, doc)
	return nil
}

// readManifest reads an entry of an index that is no index.
func readManifest(ctx context.Context, src Source, desc ocispec.Descriptor) (*manifest, error) {
	if !images.IsManifestType(desc.MediaType) {
		return nil, refused(src.Name(), "its index names %s of media type %q, neither a manifest nor an index", desc.Digest, desc.MediaType)
	}
	raw, err := fetchAll(ctx, src, desc)
	if err != nil {
		return nil, err
	}
	return parseManifest(document{desc, raw})
}

func parseManifest(doc document) (*manifest, error) {
	m := &manifest{document: doc}
	if err := decode(doc.raw, doc.desc, &m.Manifest); err != nil {
		return nil, err
	}
	if err := ownType(doc, m.MediaType); err != nil {
		return nil, err
	}
	if len(m.Layers) > maxLayers {
		return nil, refused(doc.desc.Digest, "%d layers are too many (the limit is %d)", len(m.Layers), maxLayers)
	}
	for _, d := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if err := d.Digest.Validate(); err != nil || d.Size < 0 {
			return nil, refused(doc.desc.Digest, "descriptor %q of %d bytes is not valid", d.Digest, d.Size)
		}
	}
	return m, nil
}

func parseIndex(doc document) (*ocispec.Index, error) {
	var index ocispec.Index
	if err := decode(doc.raw, doc.desc, &index); err != nil {
		return nil, err
	}
	if err := ownType(doc, index.MediaType); err != nil {
		return nil, err
	}
	if len(index.Manifests) > maxEntries {
		return nil, refused(doc.desc.Digest, "%d manifests are too many (the limit is %d)", len(index.Manifests), maxEntries)
	}
	seen := map[string]bool{}
	for _, d := range index.Manifests {
		key := string(d.Digest)
		if d.Platform != nil {
			key += " " + platforms.FormatAll(*d.Platform)
		}
		if seen[key] {
			return nil, refused(doc.desc.Digest, "the index names %s twice", d.Digest)
		}
		seen[key] = true
	}
	return &index, nil
}

// ownType compares the media type a document claims with the one it was asked
// for by, so that no document is read as something else than what its sender
// signed (the OCI spec's advice after CVE-2021-41190).
func ownType(doc document, claimed string) error {
	if claimed != "" && claimed != doc.desc.MediaType {
		return refused(doc.desc.Digest, "its descriptor says %s and the document %s", doc.desc.MediaType, claimed)
	}
	var both struct {
		Manifests json.RawMessage `json:"manifests"`
		Layers    json.RawMessage `json:"layers"`
	}
	if err := decode(doc.raw, doc.desc, &both); err != nil {
		return err
	}
	if both.Manifests != nil && both.Layers != nil {
		return refused(doc.desc.Digest, "the document is a manifest and an index at once")
	}
	return nil
}

// readConfig fetches the manifest's config.
func (m *manifest) readConfig(ctx context.Context, src Source) error {
	raw, err := fetchAll(ctx, src, m.Config)
	if err != nil {
		return err
	}
	m.config = document{m.Config, raw}
	return nil
}

// platform is what the manifest runs on, by the index or else by its config. Where
// neither names a system it is Linux, whatever this one is.
func (m *manifest) platform() (p ocispec.Platform, err error) {
	if m.desc.Platform != nil {
		p = *m.desc.Platform
	} else if err = decode(m.config.raw, m.config.desc, &p); err != nil {
		return p, err
	}
	p.OS = cmp.Or(p.OS, "linux")
	return platforms.Normalize(p), nil
}

// isImage tells images from what else travels in an index: BuildKit's
// attestations, artifacts, signatures.
func (m *manifest) isImage() bool {
	if m.desc.Annotations["vnd.docker.reference.type"] != "" || m.ArtifactType != "" {
		return false
	}
	return images.IsConfigType(m.Config.MediaType)
}

// isEROFS tells an EROFS variant, of whatever maker.
func (m *manifest) isEROFS() bool {
	if p := m.desc.Platform; p != nil && slices.Contains(p.OSFeatures, erofs.OSFeature) {
		return true
	}
	return slices.ContainsFunc(m.Layers, func(d ocispec.Descriptor) bool { return erofs.IsLayerMediaType(d.MediaType) })
}

// checkLayers refuses a manifest whose layers cannot be converted. A layer that
// may not be distributed is not an error: why says so and the manifest passes
// through untouched.
func (m *manifest) checkLayers() (why string, err error) {
	for _, d := range m.Layers {
		switch {
		case images.IsNonDistributable(d.MediaType):
			why = fmt.Sprintf("layer %s may not be distributed (%s)", d.Digest, d.MediaType)
		case !isTar(d.MediaType):
			return "", refused(m.desc.Digest, "layer %s has media type %q; tar layers, plain or with gzip or zstd, can be converted", d.Digest, d.MediaType)
		}
	}
	return why, nil
}

func isTar(mediaType string) bool {
	switch mediaType {
	case images.MediaTypeDockerSchema2Layer, images.MediaTypeDockerSchema2LayerGzip, images.MediaTypeDockerSchema2LayerZstd,
		ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd:
		return true
	}
	return false
}

// encode gives a document its one and only form.
func encode(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return raw, nil
}

var schemaVersion = specs.Versioned{SchemaVersion: 2}
