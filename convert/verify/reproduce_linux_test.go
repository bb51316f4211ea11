package verify_test

import (
	"archive/tar"
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/convert/verify"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/test/corpus"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// scratch is a layout to convert into.
func scratch(t *testing.T) convert.Target {
	t.Helper()
	dst, err := registry.Create("oci:"+t.TempDir(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return dst
}

// TestReproduce converts once more, of two platforms, in each profile and dialect.
func TestReproduce(t *testing.T) {
	p := newPlace(t)
	amd64 := image(t, built(t, lower), built(t, changes))
	arm64, err := corpus.Image(v1.Platform{OS: "linux", Architecture: "arm64"}, nil, built(t, lower))
	if err != nil {
		t.Fatal(err)
	}
	p.push(t, corpus.Index(corpus.Entry(amd64, corpus.Linux), corpus.Entry(arm64, v1.Platform{OS: "linux", Architecture: "arm64"})), "it:1")
	for _, profile := range []erofs.Profile{erofs.ProfileRaw, erofs.ProfileZstd, erofs.ProfileIndex} {
		for _, dialect := range []erofs.Dialect{erofs.DialectLegacy, erofs.DialectSpec} {
			opts := convert.Options{Profile: profile, Dialect: dialect, AllPlatforms: true, Verity: dialect == erofs.DialectSpec, InlineTails: dialect == erofs.DialectLegacy}
			if profile == erofs.ProfileIndex {
				opts.Dialect, opts.Verity, opts.InlineTails = erofs.DialectSpec, false, false
			}
			p.convert(t, "it:1", "it:erofs", opts)
			result, err := verify.Reproduce(t.Context(), p.open(t, "it:erofs"), nil, scratch(t), verify.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := result.Err(); err != nil || len(result.Variants) != 2 || result.Variants[0].Layers != 2 || result.Variants[1].Layers != 1 {
				t.Errorf("%s, %s: %v, %+v", profile, dialect, err, result)
			}
		}
	}
}

// lying sends other bytes of one blob.
type lying struct {
	convert.Source
	of digest.Digest
}

func (l lying) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if desc.Digest == l.of {
		return io.NopCloser(strings.NewReader(strings.Repeat("x", int(desc.Size)))), nil
	}
	return l.Source.Fetch(ctx, desc)
}

// TestReproduceFinds has variants that are not what this version makes.
func TestReproduceFinds(t *testing.T) {
	p := newPlace(t)
	original := image(t, built(t, base(func(*tar.Header) {})))
	p.push(t, original, "it:1")
	p.push(t, image(t, built(t, base(on("d/", func(h *tar.Header) { h.Mode = 0o700 })))), "other:1")
	p.convert(t, "it:1", "it:alone", convert.Options{Replace: true})
	p.convert(t, "other:1", "other:alone", convert.Options{Replace: true})
	p.claim(t, "other:alone", original, "it:claimed")
	find := func(src convert.Source) []string {
		result, err := verify.Reproduce(t.Context(), src, p.open(t, "it:1"), scratch(t), verify.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range result.Variants[0].Differences {
			got = append(got, d.Attr+" of "+d.Path)
		}
		if (result.Err() == nil) != (got == nil) {
			t.Errorf("%q and %v", got, result.Err())
		}
		return got
	}
	if got := find(p.open(t, "it:alone")); got != nil {
		t.Errorf("its own variant: %q", got)
	}
	if got := find(p.open(t, "it:claimed")); !slices.Equal(got, []string{"digest of layer 1"}) {
		t.Errorf("another one's variant: %q", got)
	}
	layer := p.layer(t, "it:alone")
	if got := find(lying{p.open(t, "it:alone"), layer}); !slices.Equal(got, []string{"content of " + layer.String()}) {
		t.Errorf("a registry that sends other bytes: %q", got)
	}
	p.annotate(t, "it:alone", "it:note", "org.example.note", "x")
	if got := find(p.open(t, "it:note")); !slices.Equal(got, []string{"digest of manifest"}) {
		t.Errorf("another manifest: %q", got)
	}
	p.annotate(t, "it:alone", "it:old", convert.AnnotationWriter, "0")
	if _, err := verify.Reproduce(t.Context(), p.open(t, "it:old"), p.open(t, "it:1"), scratch(t), verify.Options{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("of another version: got %v, want that it is refused", err)
	}
}

// layer is its first one.
func (p place) layer(t *testing.T, ref string) digest.Digest {
	t.Helper()
	m, err := p.variant(t, ref).Manifest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.Digest(m.Layers[0].Digest.String())
}

// annotate publishes a variant with one annotation changed.
func (p place) annotate(t *testing.T, ref, as, key, value string) {
	t.Helper()
	p.push(t, mutate.Annotations(p.variant(t, ref), map[string]string{key: value}).(v1.Image), as)
}
