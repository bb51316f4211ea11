package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/tree"
	"github.com/lithify/lithify/erofs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Reproduce converts what the variants in src were made from once more, to scratch, and
// compares: the same original gives the same bytes. It also reads all that the variants
// have. It takes no notice of block CIMs, which [Image] makes once more. What another version of the writer made cannot be compared: a
// *convert.RefusedError.
func Reproduce(ctx context.Context, src, originals convert.Source, scratch convert.Target, opts Options) (*Result, error) {
	pairs, err := opts.pairs(ctx, src, originals, isEROFS)
	if err != nil {
		return nil, err
	}
	if originals == nil {
		originals = src
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	r := &Result{Name: src.Name()}
	for _, p := range pairs {
		v := variantOf(p)
		if err := v.reproduce(ctx, src, originals, scratch, p, opts); err != nil {
			return nil, fmt.Errorf("verify %s for %s: %w", src.Name(), v.Platform, err)
		}
		r.Variants = append(r.Variants, v)
	}
	return r, nil
}

func (v *Variant) reproduce(ctx context.Context, src, originals convert.Source, scratch convert.Target, p convert.Pair, opts Options) error {
	if p.Writer != erofs.WriterVersion {
		return &convert.RefusedError{What: p.Variant.Digest.String(), Why: fmt.Sprintf("was made by version %q of the writer, and this is %q: verify it by unpacking", p.Writer, erofs.WriterVersion)}
	}
	dst, err := scratch.WithTag(p.Source.Digest.Encoded() + "-" + string(p.Dialect))
	if err != nil {
		return err
	}
	made, err := convert.Image(ctx, rooted{originals, p.Source}, dst, convert.Options{
		Profile: p.Profile, Dialect: p.Dialect, Verity: p.Verity, InlineTails: p.InlineTails, AllPlatforms: true, Replace: true, Log: opts.Log,
		Verify: convert.VerifyNone, // digests are compared
	})
	if err != nil {
		return err
	}
	mounted, err := erofs.MountedOf(p.Layers)
	if err != nil {
		return &convert.RefusedError{What: p.Variant.Digest.String(), Why: err.Error()}
	}
	v.Layers = len(mounted)
	v.Differences = differ(p, mounted, made.Variants[0])
	return v.read(ctx, src, append(p.Layers, p.Config))
}

// rooted is one manifest of a source.
type rooted struct {
	convert.Source
	desc ocispec.Descriptor
}

// Root is of convert.Source.
func (r rooted) Root(context.Context) (ocispec.Descriptor, error) { return r.desc, nil }

// differ compares layers, and where these are equal the manifests.
func differ(p convert.Pair, mounted []erofs.Mounted, made convert.Variant) (list []tree.Difference) {
	for i := range max(len(mounted), len(made.Layers)) {
		got, want := "none", "none"
		if i < len(mounted) {
			got = mounted[i].Digest.String()
		}
		if i < len(made.Layers) {
			want = made.Layers[i].Digest.String()
		}
		if got != want {
			list = append(list, tree.Difference{Path: fmt.Sprintf("layer %d", i+1), Attr: "digest", Got: got, Want: want})
		}
	}
	if len(list) == 0 && p.Variant.Digest != made.Digest {
		list = append(list, tree.Difference{Path: "manifest", Attr: "digest", Got: p.Variant.Digest.String(), Want: made.Digest.String()})
	}
	return list
}

// read reads blobs that are to have their digests.
func (v *Variant) read(ctx context.Context, src convert.Source, blobs []ocispec.Descriptor) error {
	for _, d := range blobs {
		same, err := readBlob(ctx, src, d)
		if err != nil {
			return fmt.Errorf("read %s: %w", d.Digest, err)
		}
		if !same {
			v.Differences = append(v.Differences, tree.Difference{Path: d.Digest.String(), Attr: "content", Got: "other bytes", Want: fmt.Sprintf("%d bytes of this digest", d.Size)})
		}
	}
	return nil
}

func readBlob(ctx context.Context, src convert.Source, d ocispec.Descriptor) (same bool, err error) {
	rc, err := src.Fetch(ctx, d)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	sum := d.Digest.Verifier()
	n, err := io.Copy(sum, io.LimitReader(rc, d.Size+1))
	return n == d.Size && sum.Verified(), err
}
