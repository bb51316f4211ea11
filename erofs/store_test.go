package erofs_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"maps"
	"os"
	"testing"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/converter"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstded(t testing.TB, b []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	return enc.EncodeAll(b, nil)
}

// memLabels is a label store in memory.
type memLabels map[digest.Digest]map[string]string

func (m memLabels) Get(d digest.Digest) (map[string]string, error) { return m[d], nil }

func (m memLabels) Set(d digest.Digest, l map[string]string) error {
	m[d] = l
	return nil
}

func (m memLabels) Update(d digest.Digest, l map[string]string) (map[string]string, error) {
	if m[d] == nil {
		m[d] = map[string]string{}
	}
	maps.Copy(m[d], l)
	return m[d], nil
}

// newStore is containerd's, on disk and with labels in memory.
func newStore(t testing.TB) content.Store {
	t.Helper()
	cs, err := local.NewLabeledStore(t.TempDir(), memLabels{})
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

func put(t testing.TB, cs content.Store, mediaType string, b []byte) ocispec.Descriptor {
	t.Helper()
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	if err := content.WriteBlob(t.Context(), cs, "put-"+desc.Digest.String(), bytes.NewReader(b), desc); err != nil {
		t.Fatal(err)
	}
	return desc
}

func TestLayerConvertFunc(t *testing.T) {
	src := oddLayer(t)
	_, raw := mustConvert(t, src, erofs.Options{})
	_, packed := mustConvert(t, src, erofs.Options{Profile: erofs.ProfileZstd})
	for mediaType, blob := range map[string][]byte{
		ocispec.MediaTypeImageLayer:            src,
		images.MediaTypeDockerSchema2Layer:     src,
		ocispec.MediaTypeImageLayerGzip:        gzipped(t, src),
		images.MediaTypeDockerSchema2LayerGzip: gzipped(t, src),
		ocispec.MediaTypeImageLayerZstd:        zstded(t, src),
		images.MediaTypeDockerSchema2LayerZstd: zstded(t, src),
	} {
		t.Run(mediaType, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			cs := newStore(t)
			desc := put(t, cs, mediaType, blob)
			checkStored(t, cs, desc, raw, "application/vnd.erofs.layer.v1", erofs.LayerConvertFunc())
			checkStored(t, cs, desc, raw, "application/vnd.erofs.layer.v1", erofs.LayerConvertFunc()) // there already
			checkStored(t, cs, desc, packed, "application/vnd.erofs+zstd",
				erofs.LayerConvertFunc(erofs.WithProfile(erofs.ProfileZstd), erofs.WithDialect(erofs.DialectSpec)))
			left, err := os.ReadDir(os.TempDir())
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// The descriptor of the image says nothing of the tar.
func TestLayerConvertFuncDescriptor(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	cs := newStore(t)
	blob := makeTar(t, file("a", "b"))
	desc := put(t, cs, ocispec.MediaTypeImageLayer, blob)
	desc.Data, desc.URLs = blob, []string{"https://example.com/layer.tar"}
	desc.Annotations = map[string]string{"kept": "1", "containerd.io/snapshot/stargz/toc.digest": "sha256:1", "io.github.containers.zstd-chunked.manifest-position": "1:2:3:1"}
	_, l := mustConvert(t, blob, erofs.Options{})
	got, err := erofs.LayerConvertFunc(erofs.WithDialect(erofs.DialectSpec))(t.Context(), cs, desc)
	if err != nil {
		t.Fatal(err)
	}
	want := &ocispec.Descriptor{MediaType: "application/vnd.erofs", Digest: l.Digest, Size: l.Size, Annotations: map[string]string{"kept": "1", "org.erofs.uncompressed-digest": l.Digest.String()}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// A layer of a few bytes must not make us take half a gigabyte.
func TestLayerConvertFuncWindow(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var b bytes.Buffer
	enc, err := zstd.NewWriter(&b, zstd.WithWindowSize(256<<20), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
	if err != nil {
		t.Fatal(err)
	}
	enc.Write(make([]byte, 1024))
	enc.Flush() // else the frame would say its size instead of the window
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	cs := newStore(t)
	_, err = erofs.LayerConvertFunc()(t.Context(), cs, put(t, cs, ocispec.MediaTypeImageLayerZstd, b.Bytes()))
	if !errors.Is(err, zstd.ErrWindowSizeExceeded) {
		t.Errorf("got %v, want zstd.ErrWindowSizeExceeded", err)
	}
}

func TestLayerConvertFuncLeavesAlone(t *testing.T) {
	for _, mediaType := range []string{
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, erofs.MediaTypeImage, erofs.MediaTypeLegacyZstd,
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "application/octet-stream",
	} {
		got, err := erofs.LayerConvertFunc()(t.Context(), newStore(t), ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString("")})
		if got != nil || err != nil {
			t.Errorf("%s: got %v, %v, want nothing", mediaType, got, err)
		}
	}
}

func TestLayerConvertFuncErrors(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	cs := newStore(t)
	whole := gzipped(t, oddLayer(t))
	var unresolved *erofs.UnresolvedError
	var entry *erofs.EntryError
	var limit *erofs.LimitError
	for name, c := range map[string]struct {
		blob []byte
		as   any
	}{
		"lower link": {gzipped(t, makeTar(t, hardlink("a", "lower"))), &unresolved},
		"entry":      {gzipped(t, makeTar(t, file("../x", ""))), &entry},
		"limit":      {whole, &limit},
		"cut off":    {whole[:len(whole)/2], nil},
		"not gzip":   {oddLayer(t), nil},
	} {
		limits := erofs.Limits{}
		if name == "limit" {
			limits.Entries = 3
		}
		_, err := erofs.LayerConvertFunc(erofs.WithLimits(limits))(t.Context(), cs, put(t, cs, ocispec.MediaTypeImageLayerGzip, c.blob))
		if err == nil || c.as != nil && !errors.As(err, c.as) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	index := erofs.LayerConvertFunc(erofs.WithProfile(erofs.ProfileIndex), erofs.WithDialect(erofs.DialectSpec))
	if got, err := index(t.Context(), cs, put(t, cs, ocispec.MediaTypeImageLayerGzip, whole)); err == nil {
		t.Errorf("a layer without its tar: %+v", got)
	}
	left, err := os.ReadDir(os.TempDir())
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func checkStored(t *testing.T, cs content.Store, desc ocispec.Descriptor, want *erofs.Layer, mediaType string, f converter.ConvertFunc) {
	t.Helper()
	got, err := f(t.Context(), cs, desc)
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest != want.Digest || got.Size != want.Size || got.MediaType != mediaType {
		t.Errorf("got %+v, want %s with %s of %d bytes", got, mediaType, want.Digest, want.Size)
	}
	info, err := cs.Info(t.Context(), got.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if label := info.Labels[labels.LabelUncompressed]; label != want.ImageDigest.String() {
		t.Errorf("label %q, want the DiffID %s", label, want.ImageDigest)
	}
}
