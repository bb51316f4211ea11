package convert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// before asks what the target's tag names before the work begins, and refuses
// to move the source's own tag unasked, or one that must not be moved. Where the
// tag may turn out not to move at all, that is asked again by publish.
func (c *conversion) before(ctx context.Context, p *plan) (ocispec.Descriptor, error) {
	was, err := c.dst.Head(ctx)
	if errors.Is(err, ErrNotFound) {
		return ocispec.Descriptor{}, nil
	}
	if err != nil {
		return was, err
	}
	if (was.Digest == p.root.desc.Digest || c.sameTag()) && !c.opts.InPlace {
		return was, &ConflictError{c.dst.Name(), "names the source image itself; give another tag, or --in-place to move this one"}
	}
	raw, err := fetchAll(ctx, c.dst, was)
	if err != nil {
		return was, err
	}
	if p.madeInto(document{was, raw}) {
		return was, nil
	}
	return was, c.mayMove(ctx, was)
}

// madeInto reports whether old has a variant of ours of every manifest selected,
// so that converting them again may well give old.
func (p *plan) madeInto(old document) bool {
	made := map[digest.Digest]bool{}
	for _, d := range manifestsOf(old) {
		made[digest.Digest(d.Annotations[AnnotationSource])] = true
	}
	return !slices.ContainsFunc(p.selected, func(m *manifest) bool { return !made[m.desc.Digest] })
}

// sameTag reports whether the target is the source's own tag.
func (c *conversion) sameTag() bool { return c.opts.SourceTag == c.dst.Name() }

// publish sends everything that the target does not have yet, the tag last.
func (c *conversion) publish(ctx context.Context, p *plan, variants []*variant, was ocispec.Descriptor) (*Result, error) {
	root, err := p.newRoot(variants)
	if err != nil {
		return nil, err
	}
	r := c.result(p, variants, root.desc)
	if was.Digest == root.desc.Digest {
		r.Unchanged = true
		return r, nil
	}
	// Only now: an attempt that died behind its last step finds its own result.
	if c.sameTag() && was.Digest != p.root.desc.Digest {
		return nil, &ConflictError{c.dst.Name(), fmt.Sprintf("names %s now and not %s any more, which was to be converted; convert it again", was.Digest, p.root.desc.Digest)}
	}
	if err := c.mayMove(ctx, was); err != nil {
		return nil, err
	}
	if !c.opts.Replace {
		if err := c.copyOriginals(ctx, p); err != nil {
			return nil, err
		}
	}
	if err := c.putVariants(ctx, variants); err != nil {
		return nil, err
	}
	if err := c.dst.PutManifest(ctx, root.desc, root.raw); err != nil {
		return nil, err
	}
	if r.Kept, r.KeptAs, err = c.keep(ctx, was, root); err != nil {
		return nil, err
	}
	if err := c.dst.Tag(ctx, root.desc, root.raw, was.Digest); err != nil {
		return nil, err
	}
	return r, nil
}

// newRoot is the document that the tag will name: the originals in their order
// and behind them the variants, so that a client that knows nothing of EROFS
// finds its tar manifest first.
func (p *plan) newRoot(variants []*variant) (*document, error) {
	opts := p.conv.opts
	if opts.Replace && len(variants) == 1 {
		return &variants[0].manifest, nil
	}
	index := ocispec.Index{Versioned: schemaVersion, MediaType: ocispec.MediaTypeImageIndex}
	if p.index != nil {
		index.Annotations = maps.Clone(p.index.Annotations)
		index.Subject, index.ArtifactType = p.index.Subject, p.index.ArtifactType
	}
	if !opts.Replace {
		originals, err := p.originals()
		if err != nil {
			return nil, err
		}
		index.Manifests = originals
	}
	for _, v := range variants {
		index.Manifests = append(index.Manifests, v.entry())
	}
	raw, err := encode(index)
	if err != nil {
		return nil, err
	}
	return &document{Describe(ocispec.MediaTypeImageIndex, raw), raw}, nil
}

// originals are the source's entries without the variants to be replaced.
func (p *plan) originals() ([]ocispec.Descriptor, error) {
	if p.index == nil {
		only := p.manifests[0]
		platform, err := only.platform()
		if err != nil {
			return nil, err
		}
		desc := only.desc
		desc.Platform = &platform
		return []ocispec.Descriptor{desc}, nil
	}
	var out []ocispec.Descriptor
	for _, d := range p.index.Manifests {
		if !p.replaced(d) {
			out = append(out, d)
		}
	}
	return out, nil
}

// replaced reports whether d is a variant of ours of which a new one is made.
// Variants of platforms not asked for this time stay.
func (p *plan) replaced(d ocispec.Descriptor) bool {
	for _, old := range p.stale {
		if old.desc.Digest != d.Digest {
			continue
		}
		for _, m := range p.selected {
			if m.desc.Digest == old.source() || samePlatform(m, old) {
				return true
			}
		}
	}
	return false
}

// source is the manifest that a variant of ours was made from, else "".
func (m *manifest) source() digest.Digest {
	return digest.Digest(cmp.Or(m.desc.Annotations[AnnotationSource], m.Annotations[AnnotationSource]))
}

// samePlatform reports whether a variant is for the platform of m: it then was
// made from what m has taken the place of.
func samePlatform(m, variant *manifest) bool {
	platform, err := m.platform()
	return err == nil && variant.desc.Platform != nil && bare(platforms.Normalize(*variant.desc.Platform)) == bare(platform)
}

// copyOriginals brings every document and blob of the source to the target.
func (c *conversion) copyOriginals(ctx context.Context, p *plan) error {
	manifests := append([]*manifest(nil), p.inner...)
	for _, m := range p.manifests {
		if !p.replaced(m.desc) {
			manifests = append(manifests, m)
		}
	}
	if err := c.copyBlobs(ctx, manifests); err != nil {
		return err
	}
	for _, m := range manifests {
		if err := c.putMissing(ctx, m.document); err != nil {
			return err
		}
	}
	for _, n := range p.nested {
		if err := c.putMissing(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (c *conversion) copyBlobs(ctx context.Context, manifests []*manifest) error {
	seen := map[digest.Digest]bool{}
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(c.opts.Parallel)
	for _, m := range manifests {
		for _, d := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
			if seen[d.Digest] || images.IsNonDistributable(d.MediaType) {
				continue
			}
			seen[d.Digest] = true
			eg.Go(func() error { return c.copyBlob(ctx, d) })
		}
	}
	return eg.Wait()
}

func (c *conversion) copyBlob(ctx context.Context, d ocispec.Descriptor) error {
	moved := false
	err := transfer(ctx, c.src, c.dst, d, func(r io.Reader) io.Reader {
		moved = true
		return c.metered(r, Event{Layer: d.Digest, Phase: "copy", Total: d.Size})
	})
	if moved && err == nil {
		c.event(Event{Layer: d.Digest, Phase: "copied", Done: d.Size, Total: d.Size})
	}
	return err
}

func (c *conversion) putVariants(ctx context.Context, variants []*variant) error {
	for _, v := range variants {
		for _, d := range v.devices { // which are there, but for Options.Replace
			if err := c.copyBlob(ctx, d); err != nil {
				return err
			}
		}
		if err := PushDocument(ctx, c.dst, v.config.desc, v.config.raw); err != nil {
			return err
		}
		if err := c.putMissing(ctx, v.manifest); err != nil {
			return err
		}
	}
	return nil
}

func (c *conversion) putMissing(ctx context.Context, doc document) error {
	if has, err := c.dst.Has(ctx, doc.desc); has || err != nil {
		return err
	}
	return c.dst.PutManifest(ctx, doc.desc, doc.raw)
}

// mayMove refuses to take a tag from an image that somebody has signed or
// attached something to: what was attached stays with the old digest.
func (c *conversion) mayMove(ctx context.Context, was ocispec.Descriptor) error {
	if was.Digest == "" || c.opts.BreakSignature {
		return nil
	}
	referrers, err := c.dst.Referrers(ctx, was.Digest)
	if err != nil {
		return err
	}
	if len(referrers) == 0 {
		return nil
	}
	return &ConflictError{c.dst.Name(), fmt.Sprintf(
		"names %s, to which %d signatures or other artifacts refer (the first is %s); they would stay behind. Give another tag, or --break-signature",
		was.Digest, len(referrers), referrers[0].Digest)}
}

// keep gives a digest that the tag is about to leave a tag of its own, unless
// lithify made it and the new root holds all of it: then it can be made again.
func (c *conversion) keep(ctx context.Context, was ocispec.Descriptor, root *document) (digest.Digest, string, error) {
	if was.Digest == "" {
		return "", "", nil
	}
	raw, err := fetchAll(ctx, c.dst, was)
	if err != nil {
		return "", "", err
	}
	if supersedes(root, document{was, raw}) {
		return "", "", nil
	}
	tag := "sha256-" + was.Digest.Encoded() + ".kept"
	kept, err := c.dst.WithTag(tag)
	if err != nil {
		return "", "", err
	}
	switch desc, err := kept.Head(ctx); {
	case err == nil && desc.Digest == was.Digest:
		return was.Digest, tag, nil
	case err != nil && !errors.Is(err, ErrNotFound):
		return "", "", err
	}
	if err := kept.Tag(ctx, was, raw, ""); err != nil {
		return "", "", fmt.Errorf("keep %s as %s: %w", was.Digest, tag, err)
	}
	return was.Digest, tag, nil
}

// supersedes reports whether nothing is lost when root takes the place of old:
// old has a variant of ours, and each of its manifests is in root or is a variant
// of ours of one that is.
func supersedes(root *document, old document) bool {
	ours := false
	held := map[digest.Digest]bool{}
	for _, d := range manifestsOf(*root) {
		held[d.Digest] = true
	}
	for _, d := range manifestsOf(old) {
		source := digest.Digest(d.Annotations[AnnotationSource])
		if !held[d.Digest] && !held[source] {
			return false
		}
		ours = ours || source != ""
	}
	return ours
}

// manifestsOf lists an index's entries; a manifest is its own only one.
func manifestsOf(doc document) []ocispec.Descriptor {
	var x struct {
		Annotations map[string]string    `json:"annotations"`
		Manifests   []ocispec.Descriptor `json:"manifests"`
	}
	if err := decode(doc.raw, doc.desc, &x); err != nil || x.Manifests == nil {
		d := doc.desc
		d.Annotations = x.Annotations
		return []ocispec.Descriptor{d}
	}
	return x.Manifests
}

func (c *conversion) result(p *plan, variants []*variant, root ocispec.Descriptor) *Result {
	r := &Result{
		Source:       c.opts.SourceTag,
		SourceDigest: p.root.desc.Digest,
		Target:       c.dst.Name(),
		Descriptor:   root,
		Skipped:      p.skipped,
	}
	for _, v := range variants {
		r.Variants = append(r.Variants, Variant{
			Platform: platforms.FormatAll(v.platform),
			Source:   v.source.desc.Digest,
			Digest:   v.manifest.desc.Digest,
			Layers:   v.layers,
			Files:    v.files,
			Merged:   v.merged,
		})
	}
	return r
}
