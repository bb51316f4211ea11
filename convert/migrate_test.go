package convert_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// writes counts what is sent to a target.
type writes struct {
	convert.Target
	blobs, manifests, fetched atomic.Int64
}

func (w *writes) Push(ctx context.Context, d ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	w.blobs.Add(1)
	return w.Target.Push(ctx, d, open)
}

func (w *writes) Mount(ctx context.Context, d ocispec.Descriptor, from convert.Source) (bool, error) {
	w.blobs.Add(1)
	return w.Target.Mount(ctx, d, from)
}

func (w *writes) PutManifest(ctx context.Context, d ocispec.Descriptor, raw []byte) error {
	w.manifests.Add(1)
	return w.Target.PutManifest(ctx, d, raw)
}

func (w *writes) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	w.fetched.Add(d.Size)
	return w.Target.Fetch(ctx, d)
}

// TestMigrate goes to the other dialect and back: what is there then is what converting to it gives.
func TestMigrate(t *testing.T) {
	for _, opts := range []convert.Options{
		{}, {Profile: erofs.ProfileZstd}, {Replace: true}, {Verity: true},
	} {
		opts.AllPlatforms = true
		h := newHub(t)
		twoLayers(t, h, "app:1")
		legacy := convertTo(t, h.source("app:1"), h.target("app:2"), opts).Descriptor
		opts.Dialect = erofs.DialectSpec
		spec := convertTo(t, h.source("app:1"), h.target("app:spec"), opts).Descriptor
		for _, step := range []struct {
			to   erofs.Dialect
			want ocispec.Descriptor
		}{{erofs.DialectSpec, spec}, {erofs.DialectLegacy, legacy}} {
			dst := &writes{Target: h.target("app:2")}
			r, err := convert.Migrate(t.Context(), dst, step.to, false)
			if err != nil {
				t.Fatal(err)
			}
			head := must(h.target("app:2").Head(t.Context()))(t)
			if head.Digest != step.want.Digest || r.Descriptor.Digest != step.want.Digest || r.Unchanged || len(r.Variants) != 1 {
				t.Errorf("%+v to %s: %s, want %s; %+v", opts, step.to, head.Digest, step.want.Digest, r)
			}
			if dst.blobs.Load() != 0 || dst.fetched.Load() > 20_000 {
				t.Errorf("%+v to %s: %d blobs sent, %d bytes fetched; want none and documents alone", opts, step.to, dst.blobs.Load(), dst.fetched.Load())
			}
		}
		dst := &writes{Target: h.target("app:2")}
		if r, err := convert.Migrate(t.Context(), dst, erofs.DialectLegacy, false); err != nil || !r.Unchanged || dst.manifests.Load() != 0 {
			t.Errorf("again: %+v, %v, %d manifests sent", r, err, dst.manifests.Load())
		}
	}
}

func TestMigrateRefuses(t *testing.T) {
	h := newHub(t)
	twoLayers(t, h, "app:1")
	if _, err := convert.Migrate(t.Context(), h.target("app:1"), erofs.DialectSpec, false); err == nil || !convert.Permanent(err) {
		t.Errorf("no variant: %v", err)
	}
	r := convertTo(t, h.source("app:1"), h.target("app:2"), convert.Options{AllPlatforms: true})
	dst := h.target("app:2")
	subject := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: r.Variants[0].Digest}
	empty := descOf("application/vnd.oci.empty.v1+json", []byte("{}"))
	push(t, dst, empty, []byte("{}"))
	putManifest(t, dst, ocispec.MediaTypeImageManifest, asJSON(t, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/x", Config: empty, Layers: []ocispec.Descriptor{empty}, Subject: &subject,
	}))
	var conflict *convert.ConflictError
	if _, err := convert.Migrate(t.Context(), dst, erofs.DialectSpec, false); !errors.As(err, &conflict) {
		t.Errorf("something refers to the variant: %v", err)
	}
	if head := must(dst.Head(t.Context()))(t); head.Digest != r.Descriptor.Digest {
		t.Errorf("the tag moved to %s", head.Digest)
	}
	if _, err := convert.Migrate(t.Context(), dst, erofs.DialectSpec, true); err != nil {
		t.Errorf("with leave: %v", err)
	}
}
