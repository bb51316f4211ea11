package convert_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestExtractTar(t *testing.T) {
	h := newHub(t)
	base := tarOf(t, file{name: "./"}, file{name: "secret/", mode: 0o700}, file{name: "secret/a", body: strings.Repeat("a", 70_000)})
	// It takes a directory from below and has a hard link there, and ends in the middle of a block.
	top := append(tarOf(t, file{name: "secret/b => secret/a"}, file{name: "secret/c", body: "c"}), "trailing"...)
	var layers []blob
	for _, b := range [][]byte{base, top} {
		layers = append(layers, blob{ocispec.MediaTypeImageLayerGzip, gzipped(t, b), digest.FromBytes(b)})
	}
	tag(t, h.target("app:1"), manifest(t, h.target("app:1"), "linux", "amd64", layers...))
	layout := must(registry.Create("oci:"+t.TempDir()+":x", plain))(t)
	for name, tc := range map[string]struct {
		dst  convert.Target
		opts convert.Options
	}{
		"beside the original": {h.target("app:2"), convert.Options{}},
		"alone":               {h.target("app:3"), convert.Options{Replace: true}},
		"spec":                {h.target("app:4"), convert.Options{Dialect: erofs.DialectSpec}},
		"in a layout":         {layout, convert.Options{}},
	} {
		t.Run(name, func(t *testing.T) {
			tc.opts.Profile = erofs.ProfileTar
			convertTo(t, h.source("app:1"), tc.dst, tc.opts)
			src := must(registry.Open(tc.dst.Name(), plain))(t)
			found := must(convert.TarLayers(t.Context(), src, nil))(t)
			for i, want := range [][]byte{base, top} {
				var got bytes.Buffer
				if err := found[i].Extract(t.Context(), src, &got); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got.Bytes(), want) || found[i].DiffID != digest.FromBytes(want) {
					t.Errorf("layer %d: %d bytes, not the %d of the tar", i, got.Len(), len(want))
				}
			}
		})
	}
	convertTo(t, h.source("app:1"), h.target("app:5"), convert.Options{})
	if _, err := convert.TarLayers(t.Context(), h.source("app:5"), nil); !isRefused(err) {
		t.Errorf("another profile: %v", err)
	}
	if _, err := convert.TarLayers(t.Context(), h.source("app:2"), &ocispec.Platform{OS: "linux", Architecture: "riscv64"}); !isRefused(err) {
		t.Errorf("another platform: %v", err)
	}
}

func isRefused(err error) bool {
	_, ok := errors.AsType[*convert.RefusedError](err)
	return ok
}

// swapped is a source that has other content under a digest.
type swapped struct {
	convert.Source
	with map[digest.Digest][]byte
}

func (s swapped) Fetch(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if b, ok := s.with[d.Digest]; ok {
		return io.NopCloser(bytes.NewReader(b)), nil
	}
	return s.Source.Fetch(ctx, d)
}

// Whatever is not as it was gives an error: a blob that was damaged on the way, one that is
// not what the manifest says of it, and a manifest that says something else than its original.
func TestExtractFromTheWrong(t *testing.T) {
	h := newHub(t)
	tag(t, h.target("app:1"), manifest(t, h.target("app:1"), "linux", "amd64", gz(t, file{name: "a", body: strings.Repeat("a", 70_000)})))
	convertTo(t, h.source("app:1"), h.target("app:2"), convert.Options{Profile: erofs.ProfileTar})
	src := h.source("app:2")
	l := must(convert.TarLayers(t.Context(), src, nil))(t)[0]
	content := read(t, src, l.Blob)
	for name, at := range map[string]int{"tar": 9000, "head": 2000, "metadata": len(content) - 100} {
		spoiled := bytes.Clone(content)
		spoiled[at] ^= 1
		if err := l.Extract(t.Context(), swapped{src, map[digest.Digest][]byte{l.Blob.Digest: spoiled}}, io.Discard); err == nil {
			t.Errorf("a bit flipped in the %s was not noticed", name)
		}
		other := l
		other.Blob.Digest = digest.FromBytes(spoiled)
		err := other.Extract(t.Context(), swapped{src, map[digest.Digest][]byte{other.Blob.Digest: spoiled}}, io.Discard)
		if (err != nil) != (name == "tar") {
			t.Errorf("a blob of its own digest, another bit in the %s: got %v", name, err)
		}
	}
	for name, change := range map[string]func(*convert.TarLayer){
		"longer than the blob": func(l *convert.TarLayer) { l.Size = 1 << 40 },
		"shorter":              func(l *convert.TarLayer) { l.Size -= 512 },
		"another DiffID":       func(l *convert.TarLayer) { l.DiffID = digest.FromString("x") },
	} {
		other := l
		change(&other)
		if err := other.Extract(t.Context(), src, io.Discard); !isRefused(err) {
			t.Errorf("%s: got %v, want a RefusedError", name, err)
		}
	}

	root := must(src.Root(t.Context()))(t)
	index := parse[ocispec.Index](t, read(t, src, root))
	variant := index.Manifests[1]
	m := parse[ocispec.Manifest](t, read(t, src, variant))
	m.Layers[0].Annotations[erofs.AnnotationTarDigest] = digest.FromString("x").String()
	dst := h.target("app:3")
	index.Manifests[1].Digest = putManifest(t, dst, variant.MediaType, asJSON(t, m)).Digest
	index.Manifests[1].Size = int64(len(asJSON(t, m)))
	tag(t, dst, putManifest(t, dst, ocispec.MediaTypeImageIndex, asJSON(t, index)))
	if _, err := convert.TarLayers(t.Context(), h.source("app:3"), nil); !isRefused(err) || !strings.Contains(err.Error(), "made from") {
		t.Errorf("got %v, want that the original says something else", err)
	}
}
