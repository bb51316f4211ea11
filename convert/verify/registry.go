package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/frames"
	"github.com/lithify/lithify/convert/overlay"
	"github.com/lithify/lithify/convert/proof"
	"github.com/lithify/lithify/convert/tree"
	"github.com/lithify/lithify/erofs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Registry reads all of the variants in src, and of what they were made from, which is in
// originals or in src itself if that is nil, and compares them: each layer with its tar, and
// what its annotations say that proves it, and what a container sees in the layers on each other
// with what the tars give if one is applied after the other. It needs nothing of the machine but room for a variant's layers in temp
// (default os.TempDir()), and shares no code with the writer.
func Registry(ctx context.Context, src, originals convert.Source, temp string, opts Options) (*Result, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	pairs, err := opts.pairs(ctx, src, originals, isEROFS)
	if err != nil {
		return nil, err
	}
	if originals == nil {
		originals = src
	}
	r := &Result{Name: src.Name()}
	for _, p := range pairs {
		v := variantOf(p)
		c := &comparison{src: src, originals: originals, temp: temp, variant: &v}
		if err := errors.Join(c.run(ctx, p), c.close()); err != nil {
			return nil, fmt.Errorf("verify %s for %s: %w", src.Name(), v.Platform, err)
		}
		opts.Log.DebugContext(ctx, "variant read", "platform", v.Platform, "files", v.Files, "differences", len(v.Differences))
		r.Variants = append(r.Variants, v)
	}
	return r, nil
}

// comparison is that of one variant with its original.
type comparison struct {
	src, originals convert.Source
	temp           string
	variant        *Variant
	open           []io.Closer
}

func (c *comparison) close() error {
	var errs []error
	for _, o := range slices.Backward(c.open) {
		errs = append(errs, o.Close())
	}
	return errors.Join(errs...)
}

func (c *comparison) run(ctx context.Context, p convert.Pair) error {
	var original ocispec.Manifest
	if _, err := convert.FetchDocument(ctx, c.originals, p.Source, &original); err != nil {
		return err
	}
	mounted, err := erofs.MountedOf(p.Layers)
	if err != nil {
		c.differ("manifest", "layers", err.Error(), "a stack of EROFS layers")
		return nil
	}
	if len(original.Layers) != len(mounted) {
		c.differ("manifest", "layers", fmt.Sprint(len(mounted)), fmt.Sprint(len(original.Layers)))
		return nil
	}
	applied := proof.NewApplied()
	var view overlay.FS
	for i, d := range original.Layers {
		tar, err := c.tar(ctx, d, i == 0)
		if err != nil {
			return err
		}
		lower, err := applied.Context(tar)
		if err != nil {
			return &convert.RefusedError{What: d.Digest.String(), Why: err.Error()}
		}
		l, err := c.fetch(ctx, mounted[i])
		if err != nil || l == nil {
			return err
		}
		where := fmt.Sprintf("layer %d", i+1)
		if err := c.told(where, tar.Compare(ctx, l.image, lower, nil)); err != nil {
			return err
		}
		if err := c.claims(ctx, where, l); err != nil {
			return err
		}
		c.variant.Layers++
		applied.Apply(tar)
		fsys, err := erofs.Open(l.image)
		if err != nil {
			return nil // which has been told
		}
		view = append(overlay.FS{fsys}, view...)
	}
	files, err := applied.Compare(ctx, view)
	c.variant.Files = files
	return c.told("", err)
}

// tar reads a layer of the original.
func (c *comparison) tar(ctx context.Context, d ocispec.Descriptor, bottom bool) (*proof.Tar, error) {
	tar := proof.NewTar(bottom)
	if err := convert.ReadTar(ctx, c.originals, d, tar.Read); err != nil {
		return nil, fmt.Errorf("read layer %s: %w", d.Digest, err)
	}
	return tar, nil
}

// fetch fetches a layer of the variant, whole, and the tar that its files lie in, if they do;
// nil where it is not what its digest says.
func (c *comparison) fetch(ctx context.Context, m erofs.Mounted) (*fetched, error) {
	l, err := c.blob(ctx, m.Descriptor)
	if err != nil || l == nil || len(m.Devices) == 0 {
		return l, err
	}
	tar, err := convert.TempFile(c.temp)
	if err != nil {
		return nil, err
	}
	c.open = append(c.open, tar)
	carrier, size := m.Devices[0], int64(0)
	tags, err := erofs.DeviceTags(l.image)
	if err == nil {
		l.image, size, err = erofs.Join(l.image, tar)
	}
	if want := erofs.TagOf(carrier.Digest); err != nil || len(m.Devices) > 1 || tags[0] != want {
		c.differ(m.Digest.String(), "devices", fmt.Sprintf("%q in %d layers (%v)", tags, len(m.Devices), err), want)
		return nil, nil
	}
	err = convert.CopyTar(ctx, c.src, carrier, tar, size)
	if errors.As(err, new(*convert.RefusedError)) {
		c.differ(carrier.Digest.String(), "content", err.Error(), fmt.Sprintf("%d bytes of this digest", carrier.Size))
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read layer %s: %w", carrier.Digest, err)
	}
	return l, nil
}

// blob fetches a layer of EROFS.
func (c *comparison) blob(ctx context.Context, d ocispec.Descriptor) (*fetched, error) {
	f, err := convert.TempFile(c.temp)
	if err != nil {
		return nil, err
	}
	c.open = append(c.open, f)
	rc, err := convert.Fetch(ctx, c.src, d)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(f, rc)
	if err = errors.Join(err, rc.Close()); errors.As(err, new(*convert.RefusedError)) {
		c.differ(d.Digest.String(), "content", "other bytes", fmt.Sprintf("%d bytes of this digest", d.Size))
		return nil, nil
	}
	if err != nil || !strings.HasSuffix(d.MediaType, "+zstd") {
		return &fetched{d, f, f}, err
	}
	r, err := frames.Open(f, d.Size)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", d.Digest, err)
	}
	c.open = append(c.open, r)
	return &fetched{d, f, r}, nil
}

func (c *comparison) differ(path, attr, got, want string) {
	c.variant.Differences = append(c.variant.Differences, tree.Difference{Path: path, Attr: attr, Got: got, Want: want})
}

// told notes what a comparison has found; other errors are the caller's.
func (c *comparison) told(where string, err error) error {
	var differ *proof.DifferError
	if !errors.As(err, &differ) {
		return err
	}
	for _, d := range differ.Differences {
		if where != "" {
			d.Path = where + ": " + d.Path
		}
		c.variant.Differences = append(c.variant.Differences, d)
	}
	return nil
}
