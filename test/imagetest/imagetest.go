// Package imagetest is for the tests of what reads converted images: a registry in this process,
// and images in it of which one thing is changed at a time.
package imagetest

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/test/corpus"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Hub is a registry in this process that counts what it sends of blobs.
type Hub struct {
	Host string
	sent atomic.Int64
}

// NewHub begins with an empty one.
func NewHub(t testing.TB) *Hub {
	t.Helper()
	h := &Hub{}
	real := ggcr.New(ggcr.WithReferrersSupport(true), ggcr.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			w = counted{w, &h.sent}
		}
		real.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	h.Host = strings.TrimPrefix(srv.URL, "http://")
	return h
}

type counted struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (w counted) Write(p []byte) (int, error) {
	w.n.Add(int64(len(p)))
	return w.ResponseWriter.Write(p)
}

// Sent is how many bytes of blobs have been sent since it was last asked.
func (h *Hub) Sent() int64 { return h.sent.Swap(0) }

// Target is a tag of the registry.
func (h *Hub) Target(t testing.TB, ref string) convert.Target {
	t.Helper()
	dst, err := registry.Create(h.Host+"/"+ref, registry.Options{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	return dst
}

// Converted pushes an image of layers for linux/amd64 and its variant at ref, and gives it.
func (h *Hub) Converted(t testing.TB, ref string, opts convert.Options, layers ...v1.Layer) *Image {
	t.Helper()
	original, err := corpus.Image(corpus.Linux, []string{"/bin/sh"}, layers...)
	if err != nil {
		t.Fatal(err)
	}
	from := h.Target(t, ref+"-original")
	h.pushImage(t, from, original)
	opts.TempDir, opts.AllPlatforms, opts.Log = t.TempDir(), true, slog.New(slog.DiscardHandler)
	if _, err := convert.Image(t.Context(), from, h.Target(t, ref), opts); err != nil {
		t.Fatal(err)
	}
	return h.Read(t, ref)
}

func (h *Hub) pushImage(t testing.TB, dst convert.Target, image v1.Image) {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		rc, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(rc)
		if err = errors.Join(err, rc.Close()); err != nil {
			t.Fatal(err)
		}
		put(t, dst, "application/octet-stream", raw)
	}
	config, err1 := image.RawConfigFile()
	manifest, err2 := image.RawManifest()
	mt, err3 := image.MediaType()
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	put(t, dst, ocispec.MediaTypeImageConfig, config)
	tag(t, dst, string(mt), manifest)
}

func put(t testing.TB, dst convert.Target, mediaType string, raw []byte) ocispec.Descriptor {
	t.Helper()
	d := convert.Describe(mediaType, raw)
	if err := dst.Push(t.Context(), d, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }); err != nil {
		t.Fatal(err)
	}
	return d
}

func tag(t testing.TB, dst convert.Target, mediaType string, raw []byte) {
	t.Helper()
	d := convert.Describe(mediaType, raw)
	was, err := dst.Head(t.Context())
	if err != nil && !errors.Is(err, convert.ErrNotFound) {
		t.Fatal(err)
	}
	if err := errors.Join(dst.PutManifest(t.Context(), d, raw), dst.Tag(t.Context(), d, raw, was.Digest)); err != nil {
		t.Fatal(err)
	}
}

// Layer is a gzipped tar of entries. Those without a type are files, of the contents that
// their names have.
func Layer(t testing.TB, contents map[string]string, entries ...tar.Header) v1.Layer {
	t.Helper()
	l, err := corpus.Built(types.OCILayer, func(w *tar.Writer) error {
		for _, h := range entries {
			if h.ModTime.IsZero() {
				h.ModTime = time.Unix(1e9, 0)
			}
			var err error
			if h.Typeflag == 0 {
				err = corpus.File(w, h, contents[h.Name])
			} else {
				err = w.WriteHeader(&h)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Image is one with a variant. What is changed in it is pushed by [Hub.Put].
type Image struct {
	Index    ocispec.Index // its last entry is the variant's
	Manifest ocispec.Manifest
	Config   map[string]any
	Blobs    [][]byte // of Manifest.Layers
}

// Read reads the image whose last manifest is the variant.
func (h *Hub) Read(t testing.TB, ref string) *Image {
	t.Helper()
	src := h.Target(t, ref)
	root, err := src.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := &Image{}
	document(t, src, root, &m.Index)
	document(t, src, m.Index.Manifests[len(m.Index.Manifests)-1], &m.Manifest)
	document(t, src, m.Manifest.Config, &m.Config)
	for _, d := range m.Manifest.Layers {
		rc, err := convert.Fetch(t.Context(), src, d)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(rc)
		if err = errors.Join(err, rc.Close()); err != nil {
			t.Fatal(err)
		}
		m.Blobs = append(m.Blobs, raw)
	}
	return m
}

func document(t testing.TB, src convert.Source, d ocispec.Descriptor, v any) {
	t.Helper()
	if _, err := convert.FetchDocument(t.Context(), src, d, v); err != nil {
		t.Fatal(err)
	}
}

// DiffIDs are the config's, which may be changed.
func (m *Image) DiffIDs() []any { return m.Config["rootfs"].(map[string]any)["diff_ids"].([]any) }

// Replace gives layer i another blob. Where the old one's digest stood as what the layer
// holds, the new one's does.
func (m *Image) Replace(i int, blob []byte) {
	d := &m.Manifest.Layers[i]
	was, is := d.Digest.String(), digest.FromBytes(blob)
	for k, v := range d.Annotations {
		if v == was {
			d.Annotations[k] = is.String()
		}
	}
	if list := m.DiffIDs(); list[i] == was {
		list[i] = is.String()
	}
	m.Blobs[i], d.Digest, d.Size = blob, is, int64(len(blob))
}

// Insert puts a layer before layer i.
func (m *Image) Insert(i int, d ocispec.Descriptor, blob []byte, diffID digest.Digest) {
	d.Digest, d.Size = digest.FromBytes(blob), int64(len(blob))
	m.Manifest.Layers = insert(m.Manifest.Layers, i, d)
	m.Blobs = insert(m.Blobs, i, blob)
	m.Config["rootfs"].(map[string]any)["diff_ids"] = insert(m.DiffIDs(), i, any(diffID.String()))
}

func insert[T any](s []T, i int, v T) []T {
	return append(append(append([]T{}, s[:i]...), v), s[i:]...)
}

// Put pushes the image as ref, and gives that.
func (h *Hub) Put(t testing.TB, ref string, m *Image) convert.Source {
	t.Helper()
	dst := h.Target(t, ref)
	for i, b := range m.Blobs {
		put(t, dst, m.Manifest.Layers[i].MediaType, b)
	}
	m.Manifest.Config = put(t, dst, m.Manifest.Config.MediaType, encode(t, m.Config))
	raw := encode(t, m.Manifest)
	entry := &m.Index.Manifests[m.variant()]
	d := convert.Describe(m.Manifest.MediaType, raw)
	if err := dst.PutManifest(t.Context(), d, raw); err != nil {
		t.Fatal(err)
	}
	entry.Digest, entry.Size = d.Digest, d.Size
	tag(t, dst, m.Index.MediaType, encode(t, m.Index))
	src, err := registry.Open(h.Host+"/"+ref, registry.Options{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// variant is the index's entry of Manifest, which may have moved.
func (m *Image) variant() int {
	for i, d := range m.Index.Manifests {
		if d.Annotations[convert.AnnotationSource] != "" {
			return i
		}
	}
	panic("no entry is of lithify's variant")
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
