package convert_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// bag is a source of a few blobs in memory.
type bag struct {
	root  ocispec.Descriptor
	blobs map[digest.Digest][]byte
}

func (b *bag) add(mediaType string, raw []byte) ocispec.Descriptor {
	if b.blobs == nil {
		b.blobs = map[digest.Digest][]byte{}
	}
	d := descOf(mediaType, raw)
	b.blobs[d.Digest] = raw
	return d
}

func (b *bag) Name() string                                     { return "bag" }
func (b *bag) Root(context.Context) (ocispec.Descriptor, error) { return b.root, nil }
func (b *bag) Has(_ context.Context, d ocispec.Descriptor) (bool, error) {
	return b.blobs[d.Digest] != nil, nil
}
func (b *bag) Referrers(context.Context, digest.Digest) ([]ocispec.Descriptor, error) {
	return nil, nil
}

func (b *bag) Fetch(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	raw, ok := b.blobs[d.Digest]
	if !ok {
		return nil, convert.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(raw)), nil
}

// FuzzDocuments feeds whatever to the parsers of manifests, indexes and configs:
// the image is refused or converted, and never half published.
func FuzzDocuments(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"layers":[{}]}`), []byte(`{"rootfs":{"diff_ids":[""]}}`), 0)
	f.Add([]byte(`{"manifests":[{"mediaType":"x","digest":"sha256:","size":-1}]}`), []byte(`{}`), 1)
	f.Add([]byte(`{"config":{"mediaType":"application/vnd.oci.image.config.v1+json"},"layers":[]}`), []byte(`null`), 0)
	kinds := []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, images.MediaTypeDockerSchema2Manifest, images.MediaTypeDockerSchema2ManifestList}
	f.Fuzz(func(t *testing.T, doc, config []byte, kind int) {
		src := &bag{}
		src.root = src.add(kinds[uint(kind)%uint(len(kinds))], doc)
		src.add(ocispec.MediaTypeImageConfig, config)
		dst, err := registry.Create("oci:"+t.TempDir()+":x", registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = convert.Image(t.Context(), src, dst, convert.Options{AllPlatforms: true, TempDir: t.TempDir()})
		if _, herr := dst.Head(t.Context()); (err == nil) != (herr == nil) {
			t.Errorf("conversion says %v, the tag says %v", err, herr)
		}
	})
}

// FuzzImage wraps a layer blob and a config in documents that fit them.
func FuzzImage(f *testing.F) {
	f.Add([]byte("\x1f\x8b\x08\x00garbage"), []byte(`,"os.features":null`))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0}, []byte(``))
	f.Add(make([]byte, 1024), []byte(`,"rootfs":{}`))
	f.Fuzz(func(t *testing.T, layer, extra []byte) {
		src := &bag{}
		l := src.add(ocispec.MediaTypeImageLayerGzip, layer)
		config := src.add(ocispec.MediaTypeImageConfig, []byte(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["`+string(l.Digest)+`"]}`+string(extra)+`}`))
		src.root = src.add(ocispec.MediaTypeImageManifest, asJSON(t, ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{l}}))
		dst, err := registry.Create("oci:"+t.TempDir()+":x", registry.Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = convert.Image(t.Context(), src, dst, convert.Options{TempDir: t.TempDir()})
		if _, herr := dst.Head(t.Context()); (err == nil) != (herr == nil) {
			t.Errorf("conversion says %v, the tag says %v", err, herr)
		}
	})
}
