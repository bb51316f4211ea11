package convert

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Migration tells what Migrate has published.
type Migration struct {
	Target     string             `json:"target"`
	Was        digest.Digest      `json:"was"` // what the tag named before
	Descriptor ocispec.Descriptor `json:"descriptor"`
	Unchanged  bool               `json:"unchanged"` // all variants were of the dialect
	Variants   []MigratedVariant  `json:"variants"`
	// Kept is the digest the tag named before, kept under the tag KeptAs.
	Kept   digest.Digest `json:"kept,omitempty"`
	KeptAs string        `json:"keptAs,omitempty"`
}

// MigratedVariant is a manifest of lithify's.
type MigratedVariant struct {
	Platform string        `json:"platform"`
	Was      digest.Digest `json:"was"`
	Digest   digest.Digest `json:"digest"`
}

// Migrate writes the manifests of the EROFS variants at dst's tag anew in another dialect: the
// same that converting to it gives. Blobs and configs stay as they are, and none is sent. The
// tag moves by the rules of [Image]. It refuses where something refers to the tag's digest, or
// to that of a variant, unless breakSignature says that it may stay behind.
func Migrate(ctx context.Context, dst Target, to erofs.Dialect, breakSignature bool) (*Migration, error) {
	g, err := readImage(ctx, dst)
	if err != nil {
		return nil, err
	}
	c := &conversion{src: dst, dst: dst, opts: Options{BreakSignature: breakSignature}.withDefaults()}
	made := map[digest.Digest]document{}
	r := &Migration{Target: dst.Name(), Was: g.root.desc.Digest}
	for _, m := range g.manifests {
		if m.source() == "" || !m.isEROFS() {
			continue
		}
		doc, err := m.migrated(ctx, dst, to)
		if err != nil {
			return nil, err
		}
		platform, err := m.platform()
		if err != nil {
			return nil, err
		}
		if doc.desc.Digest != m.desc.Digest {
			if err := c.mayMove(ctx, m.desc); err != nil {
				return nil, err
			}
			made[m.desc.Digest] = *doc
		}
		r.Variants = append(r.Variants, MigratedVariant{platforms.FormatAll(platform), m.desc.Digest, doc.desc.Digest})
	}
	if len(r.Variants) == 0 {
		return nil, refused(dst.Name(), "has no EROFS variant that lithify made")
	}
	root, err := g.replace(made)
	if err != nil {
		return nil, err
	}
	r.Descriptor = root.desc
	if r.Unchanged = len(made) == 0; r.Unchanged {
		return r, nil
	}
	if err := c.mayMove(ctx, g.root.desc); err != nil {
		return nil, err
	}
	for _, doc := range made {
		if err := c.putMissing(ctx, doc); err != nil {
			return nil, err
		}
	}
	if err := c.putMissing(ctx, *root); err != nil {
		return nil, err
	}
	if r.Kept, r.KeptAs, err = c.keep(ctx, g.root.desc, root); err != nil {
		return nil, err
	}
	return r, dst.Tag(ctx, root.desc, root.raw, g.root.desc.Digest)
}

// migrated is the manifest of a variant in another dialect.
func (m *manifest) migrated(ctx context.Context, src Source, to erofs.Dialect) (*document, error) {
	if err := m.readConfig(ctx, src); err != nil {
		return nil, err
	}
	ids, err := m.diffIDs()
	if err != nil {
		return nil, err
	}
	if m.Annotations[AnnotationProfile] == string(erofs.ProfileIndex) {
		if to != erofs.DialectSpec {
			return nil, refused(m.desc.Digest, "it is of profile %s, which is in dialect %s alone; convert the image again", erofs.ProfileIndex, erofs.DialectSpec)
		}
		return &m.document, nil
	}
	other := m.Manifest
	other.Layers = slices.Clone(m.Layers)
	for i, d := range m.Layers {
		if other.Layers[i], err = migrateLayer(d, ids[i], i == len(m.Layers)-1, to); err != nil {
			return nil, fmt.Errorf("variant %s: %w", m.desc.Digest, err)
		}
	}
	raw, err := encode(other)
	if err != nil {
		return nil, err
	}
	return &document{Describe(m.desc.MediaType, raw), raw}, nil
}

// migrateLayer is how a dialect names a layer that is named in either.
func migrateLayer(d ocispec.Descriptor, diffID digest.Digest, top bool, to erofs.Dialect) (ocispec.Descriptor, error) {
	role := d.Annotations[erofs.AnnotationRole]
	if !erofs.IsLayerMediaType(d.MediaType) || role != "" && role != erofs.RoleOverlayLower {
		return d, refused(d.Digest, "a layer of media type %s and role %q is not in both dialects", d.MediaType, role)
	}
	profile := erofs.ProfileRaw
	if strings.HasSuffix(d.MediaType, "+zstd") {
		profile = erofs.ProfileZstd
	}
	d.MediaType = to.MediaType(profile)
	notes := maps.Clone(d.Annotations)
	delete(notes, erofs.AnnotationRole)
	delete(notes, erofs.AnnotationUncompressedDigest)
	if to == erofs.DialectSpec {
		if notes == nil {
			notes = map[string]string{}
		}
		notes[erofs.AnnotationUncompressedDigest] = diffID.String()
		if !top {
			notes[erofs.AnnotationRole] = erofs.RoleOverlayLower
		}
	}
	if d.Annotations = notes; len(notes) == 0 {
		d.Annotations = nil
	}
	return d, nil
}

// replace is the root with other manifests in the place of those of a digest.
func (g *graph) replace(made map[digest.Digest]document) (*document, error) {
	if g.index == nil {
		if doc, ok := made[g.root.desc.Digest]; ok {
			return &doc, nil
		}
		return &g.root, nil
	}
	index := *g.index
	index.Manifests = slices.Clone(g.index.Manifests)
	for i, d := range index.Manifests {
		if doc, ok := made[d.Digest]; ok {
			index.Manifests[i].Digest, index.Manifests[i].Size = doc.desc.Digest, doc.desc.Size
		}
	}
	raw, err := encode(index)
	if err != nil {
		return nil, err
	}
	return &document{Describe(g.root.desc.MediaType, raw), raw}, nil
}
