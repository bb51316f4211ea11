package lint

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/platforms"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Level is how much a rule matters.
type Level string

const (
	Must   Level = "MUST"
	Should Level = "SHOULD"
	May    Level = "MAY"
	// Note is of what is no matter of the draft's: what was not looked at, and why.
	Note Level = "NOTE"
)

// Rule is one of the draft's.
type Rule struct {
	ID      string `json:"id"`
	Level   Level  `json:"level"`
	Section string `json:"section"`
	Text    string `json:"text"`
	// Unseen is why no image shows it, of a rule that is not checked.
	Unseen string `json:"unseen,omitempty"`

	check func(*image, say)
}

// say tells what violates a rule, in a layer, or elsewhere if that is nil.
type say func(l *layer, format string, args ...any)

// Rules are all of them, in the draft's order of topics.
func Rules() []Rule {
	return slices.Concat(platformRules, manifestRules, roleRules, indexRules, verityRules, contentRules, diffIDRules, unseenRules)
}

// Finding is a violation of a rule.
type Finding struct {
	Rule     string        `json:"rule"`
	Level    Level         `json:"level"`
	Section  string        `json:"section"`
	Platform string        `json:"platform"`
	Manifest digest.Digest `json:"manifest"`
	Layer    int           `json:"layer,omitempty"` // from 1; 0: none
	Blob     digest.Digest `json:"blob,omitempty"`  // the layer's
	Detail   string        `json:"detail"`
}

func (f Finding) String() string {
	where := "manifest " + f.Manifest.String()
	if f.Layer > 0 {
		where = fmt.Sprintf("layer %d (%s)", f.Layer, f.Blob)
	}
	return fmt.Sprintf("%s: %s (%s, section %s)", where, f.Detail, f.Level, f.Section)
}

// Report is what was found in an image.
type Report struct {
	Name     string    `json:"name"`
	Deep     bool      `json:"deep"`
	Variants int       `json:"variants"` // of EROFS, that were looked at
	Layers   int       `json:"layers"`   // of these
	Findings []Finding `json:"findings"`
}

// Count says how many findings are of a level.
func (r *Report) Count(l Level) (n int) {
	for _, f := range r.Findings {
		if f.Level == l {
			n++
		}
	}
	return n
}

// Err is nil if no MUST is violated, and with strict no SHOULD either; else a
// *convert.RefusedError.
func (r *Report) Err(strict bool) error {
	bad := func(f Finding) bool { return f.Level == Must || strict && f.Level == Should }
	i := slices.IndexFunc(r.Findings, bad)
	if i < 0 {
		return nil
	}
	counted := fmt.Sprintf("%d violations of a MUST", r.Count(Must))
	if strict {
		counted += fmt.Sprintf(" and %d of a SHOULD", r.Count(Should))
	}
	return &convert.RefusedError{What: r.Name, Why: fmt.Sprintf("is not what the draft asks for: %s, the first: %s", counted, r.Findings[i])}
}

// Options of Image; the zero value works.
type Options struct {
	Deep      bool               // read all of each blob
	Platforms []ocispec.Platform // leaves out the variants of others
	TempDir   string             // for what is fetched whole; default os.TempDir()
}

// Image looks at all EROFS variants in src, of any maker. An error says that they could not be
// read; what is wrong with them is in the report.
func Image(ctx context.Context, src convert.Source, opts Options) (*Report, error) {
	_, index, list, err := convert.Manifests(ctx, src)
	if err != nil {
		return nil, err
	}
	r := &Report{Name: src.Name(), Deep: opts.Deep, Findings: []Finding{}}
	for _, m := range list {
		if m.Platform == nil || !m.IsEROFS() || !opts.takes(*m.Platform) {
			continue
		}
		im := &image{Manifest: m, deep: opts.Deep}
		if index != nil && !m.Inner {
			im.index, im.all = index, list
		}
		if err := im.read(ctx, src, opts.TempDir); err != nil {
			return nil, fmt.Errorf("lint %s: %w", src.Name(), err)
		}
		r.Variants++
		r.Layers += len(im.layers)
		r.Findings = append(r.Findings, im.findings()...)
	}
	if r.Variants == 0 {
		return nil, &convert.RefusedError{What: src.Name(), Why: "has no EROFS variant for the platforms asked for; make one with lithify convert"}
	}
	return r, nil
}

func (o Options) takes(p ocispec.Platform) bool {
	p.OSFeatures = nil
	return len(o.Platforms) == 0 || slices.ContainsFunc(o.Platforms, func(want ocispec.Platform) bool { return platforms.OnlyStrict(want).Match(p) })
}

func (im *image) findings() (list []Finding) {
	for _, rule := range Rules() {
		if rule.check == nil {
			continue
		}
		rule.check(im, func(l *layer, format string, args ...any) {
			f := Finding{
				Rule: rule.ID, Level: rule.Level, Section: rule.Section, Detail: fmt.Sprintf(format, args...),
				Manifest: im.Descriptor.Digest, Platform: platforms.FormatAll(*im.Platform),
			}
			if l != nil {
				f.Layer, f.Blob = l.number+1, l.Digest
			}
			list = append(list, f)
		})
	}
	return list
}

// eachLayer has check called for all layers of EROFS.
func eachLayer(check func(l *layer, say func(format string, args ...any))) func(*image, say) {
	return func(im *image, say say) {
		for _, l := range im.layers {
			if l.isEROFS() {
				check(l, func(format string, args ...any) { say(l, format, args...) })
			}
		}
	}
}

// isEROFS is of images in either dialect.
func (l *layer) isEROFS() bool { return erofs.IsLayerMediaType(l.MediaType) }

func (l *layer) isIndex() bool { return l.MediaType == erofs.MediaTypeChunkIndex }
