package convert

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// plan is what an image will be converted to.
type plan struct {
	*graph
	conv     *conversion
	selected []*manifest
	stale    []*manifest // our own variants of an earlier conversion, to be replaced
	skipped  []Skipped
}

// plan selects the manifests to convert. Selecting none is an error that says
// what there is.
func (c *conversion) plan(ctx context.Context, g *graph) (*plan, error) {
	p := &plan{graph: g, conv: c}
	foreign := map[string]digest.Digest{}
	var offered []ocispec.Platform
	for _, m := range g.manifests {
		switch {
		case m.source() != "":
			p.stale = append(p.stale, m)
			continue
		case !m.isImage():
			continue
		}
		if err := m.readConfig(ctx, c.src); err != nil {
			return nil, err
		}
		platform, err := m.platform()
		if err != nil {
			return nil, err
		}
		if m.isEROFS() {
			foreign[bare(platform)] = m.desc.Digest
			continue
		}
		offered = append(offered, platform)
		if err := p.consider(m, platform); err != nil {
			return nil, err
		}
	}
	nested, err := p.passInner(ctx)
	if err != nil {
		return nil, err
	}
	return p, p.check(foreign, append(offered, nested...))
}

// passInner notes the images asked for that lie in an index within the index: a
// variant could not stand beside them without changing that index. It gives their
// platforms. One whose platform cannot be told passes through unnamed.
func (p *plan) passInner(ctx context.Context) (offered []ocispec.Platform, err error) {
	for _, m := range p.inner {
		if m.source() != "" || !m.isImage() || m.isEROFS() {
			continue
		}
		if m.desc.Platform == nil {
			err := m.readConfig(ctx, p.conv.src)
			if Permanent(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
		}
		platform, err := m.platform()
		if err != nil {
			continue
		}
		offered = append(offered, platform)
		if p.conv.wants(platform, false) {
			p.skipped = append(p.skipped, Skipped{m.desc.Digest, platforms.FormatAll(platform),
				"it lies in an index within the index and passes through untouched; convert it by its digest"})
		}
	}
	return offered, nil
}

// consider selects m if it is asked for and can be converted.
func (p *plan) consider(m *manifest, platform ocispec.Platform) error {
	if !p.conv.wants(platform, p.index == nil) {
		return nil
	}
	skip := func(why string) {
		p.skipped = append(p.skipped, Skipped{m.desc.Digest, platforms.FormatAll(platform), why})
	}
	switch {
	case platform.OS == "windows" && !p.conv.opts.BlockCIM:
		skip("EROFS is for Linux; the manifest passes through untouched (block CIMs are for Windows: --blockcim)")
		return nil
	case platform.OS != "linux" && platform.OS != "windows":
		skip("EROFS is for Linux; the manifest passes through untouched")
		return nil
	}
	why, err := m.checkLayers()
	switch {
	case err != nil:
		return err
	case why != "":
		skip(why)
		return nil
	case len(m.Layers) == 0:
		skip("it has no layers")
		return nil
	}
	if _, err := m.diffIDs(); err != nil {
		return err
	}
	p.selected = append(p.selected, m)
	return nil
}

func (p *plan) check(foreign map[string]digest.Digest, offered []ocispec.Platform) error {
	name := p.conv.opts.SourceTag
	if missing := p.conv.missing(offered, p.index == nil); len(missing) > 0 && len(offered) > 0 {
		return refused(name, "it holds no manifest for %s, but for %s; name one with --platform", format(missing), format(offered))
	}
	if len(p.selected) == 0 {
		switch {
		case len(p.skipped) > 0:
			return refused(name, "nothing to convert: %s: %s", p.skipped[0].Platform, p.skipped[0].Why)
		}
		return refused(name, "nothing to convert: it holds no image with tar layers (an EROFS variant is not converted again)")
	}
	for _, m := range p.selected {
		platform, err := m.platform()
		if err != nil {
			return err
		}
		if d, ok := foreign[bare(platform)]; ok && !p.conv.opts.Replace {
			return refused(name, "has an EROFS variant for %s already (%s), which lithify did not make and will not replace; convert the tar manifest %s by its digest",
				platforms.FormatAll(platform), d, m.desc.Digest)
		}
	}
	return nil
}

// bare is a platform without its features: the key under which a tar manifest
// and its EROFS variant meet.
func bare(p ocispec.Platform) string {
	p.OSFeatures = nil
	return platforms.FormatAll(p)
}

// wants reports whether the manifest of this platform was asked for. A source
// that is one manifest was asked for unless a platform was named.
func (c *conversion) wants(platform ocispec.Platform, only bool) bool {
	if c.opts.AllPlatforms {
		return true
	}
	if only && c.opts.anyPlatform {
		return true
	}
	return slices.ContainsFunc(c.opts.Platforms, func(want ocispec.Platform) bool {
		return platforms.OnlyStrict(want).Match(platform)
	})
}

// missing are the platforms asked for that the source does not offer.
func (c *conversion) missing(offered []ocispec.Platform, only bool) []ocispec.Platform {
	if c.opts.AllPlatforms || only && c.opts.anyPlatform {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(c.opts.Platforms), func(want ocispec.Platform) bool {
		return slices.ContainsFunc(offered, platforms.OnlyStrict(want).Match)
	})
}

func format(ps []ocispec.Platform) string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = platforms.FormatAll(p)
	}
	return strings.Join(out, ", ")
}

// tasksOf lists the layers of a manifest, bottom first.
func (c *conversion) tasksOf(m *manifest) []task {
	diffIDs, err := m.diffIDs()
	if err != nil {
		panic(fmt.Sprintf("convert: a manifest was selected whose config does not parse: %v", err))
	}
	tasks := make([]task, len(m.Layers))
	for i, d := range m.Layers {
		tasks[i] = task{
			LayerJob: LayerJob{
				Source:      d.Digest,
				MediaType:   d.MediaType,
				Profile:     c.opts.Profile,
				Verity:      c.opts.Verity,
				InlineTails: c.opts.InlineTails,
				Bottom:      i == 0,
				Writer:      erofs.WriterVersion,
			},
			desc:   d,
			diffID: diffIDs[i],
		}
	}
	return tasks
}

// tasks lists the distinct layers of all selected manifests for Linux.
func (p *plan) tasks() []task {
	seen := map[digest.Digest]bool{}
	var out []task
	for _, m := range p.linux() {
		for _, t := range p.conv.tasksOf(m) {
			if key := t.Key(); !seen[key] {
				seen[key] = true
				out = append(out, t)
			}
		}
	}
	return out
}
