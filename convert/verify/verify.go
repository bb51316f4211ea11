// Package verify proves that a variant, of EROFS or of block CIMs, holds what the image holds
// that it was made from.
//
//	result, err := verify.Image(ctx, src, nil, verify.Options{})
//	if err == nil {
//		err = result.Err()
//	}
//
// [Image] has containerd's own code unpack and mount both, in this process, and compares
// each file: so a node will see the same ones. On Windows it has that make block CIMs of the
// original, and compares these. [Registry] reads all of both and compares them by code
// that shares nothing with the writer. [Reproduce] converts once more, which makes the same bytes.
// These two need nothing of the machine.
package verify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/containerd/containerd/v2/core/transfer"
	"github.com/containerd/platforms"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/convert/tree"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Options of Image; the zero value works.
type Options struct {
	// Platforms leaves out the variants of others.
	Platforms []ocispec.Platform
	// Root is where Image unpacks, which one process at a time may do. Nothing of
	// them stays there. Default: a directory of this call's own in $TMPDIR.
	Root string
	Log  *slog.Logger // default: discards
}

// Result says how the variants of an image compare.
type Result struct {
	Name     string    `json:"name"`
	Variants []Variant `json:"variants"`
}

// Variant is one of them.
type Variant struct {
	Platform string        `json:"platform"`
	Source   digest.Digest `json:"source"` // what it was made from, and is compared with
	Digest   digest.Digest `json:"digest"`
	Files    int           `json:"files,omitempty"`  // compared by Image and Registry
	Layers   int           `json:"layers,omitempty"` // made again and compared, or compared by Registry
	// Differences are what a node would see otherwise, or what would be made otherwise.
	Differences []tree.Difference `json:"differences"`
	// Root is how the root directory differs. containerd itself makes it so of one
	// image: it takes it from the layers for its EROFS snapshotter and not for overlayfs.
	Root []tree.Difference `json:"root,omitempty"`
}

// Err is nil if nothing differs, else a *convert.RefusedError.
func (r *Result) Err() error {
	for _, v := range r.Variants {
		if n := len(v.Differences); n > 0 {
			return &convert.RefusedError{What: r.Name, Why: fmt.Sprintf("the variant for %s is not what it was made from: %d differences, the first: %s", v.Platform, n, v.Differences[0])}
		}
	}
	return nil
}

// Image compares the variants in src with what they were made from, which is in
// originals, or in src itself if that is nil. Those of EROFS need Linux and root, those of block
// CIMs a Windows that writes such: of the others it takes no notice.
func Image(ctx context.Context, src, originals convert.Source, opts Options) (_ *Result, err error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	pairs, err := opts.pairs(ctx, src, originals, unpacks)
	if err != nil {
		return nil, err
	}
	if originals == nil {
		originals = src
	}
	if opts.Root == "" {
		var remove func() error
		if opts.Root, remove, err = tempRoot(ctx, opts.Log); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, remove()) }()
	}
	s, err := stack.Open(ctx, opts.Root, opts.Log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	r := &Result{Name: src.Name()}
	for _, p := range pairs {
		v := variantOf(p)
		if err := v.compare(ctx, s, p, image{originals, p.Source}, image{src, p.Variant}); err != nil {
			return nil, fmt.Errorf("verify %s for %s: %w", src.Name(), v.Platform, err)
		}
		opts.Log.DebugContext(ctx, "variant compared", "platform", v.Platform, "files", v.Files, "differences", len(v.Differences))
		r.Variants = append(r.Variants, v)
	}
	return r, nil
}

// pairs are those for the platforms asked for.
func (o Options) pairs(ctx context.Context, src, originals convert.Source, takes func(erofs.Profile) bool) ([]convert.Pair, error) {
	pairs, err := convert.Pairs(ctx, src, originals)
	if err != nil {
		return nil, err
	}
	early := false
	pairs = slices.DeleteFunc(pairs, func(p convert.Pair) bool {
		early = early || p.Profile == erofs.ProfileIndex && !takes(p.Profile)
		return !takes(p.Profile) || !o.takes(p.Platform)
	})
	if len(pairs) == 0 && early {
		return nil, &convert.RefusedError{What: src.Name(), Why: fmt.Sprintf("has a variant of profile %s, which no released containerd mounts: verify it without --unpack", erofs.ProfileIndex)}
	}
	if len(pairs) == 0 {
		return nil, &convert.RefusedError{What: src.Name(), Why: "has no variant for the platforms asked for that is verified here"}
	}
	return pairs, nil
}

// isEROFS is of all profiles but that of Windows.
func isEROFS(p erofs.Profile) bool { return p != convert.ProfileBlockCIM }

func variantOf(p convert.Pair) Variant {
	return Variant{Platform: platforms.FormatAll(p.Platform), Source: p.Source.Digest, Digest: p.Variant.Digest}
}

// takes looks at a platform without its features: all variants have the one.
func (o Options) takes(p ocispec.Platform) bool {
	p.OSFeatures = nil
	return len(o.Platforms) == 0 || slices.ContainsFunc(o.Platforms, func(want ocispec.Platform) bool { return platforms.OnlyStrict(want).Match(p) })
}

// image is a manifest that is to be pulled.
type image struct {
	convert.Source
	desc ocispec.Descriptor
}

// name is unique; the host is there because containerd wants one.
func (i image) name() string { return "localhost/verify@" + i.desc.Digest.String() }

// Resolve is of transfer.ImageFetcher.
func (i image) Resolve(context.Context) (string, ocispec.Descriptor, error) {
	return i.name(), i.desc, nil
}

// Fetcher is of transfer.ImageFetcher.
func (i image) Fetcher(context.Context, string) (transfer.Fetcher, error) { return i, nil }
