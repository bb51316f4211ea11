package provenance_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/provenance"
	"github.com/lithify/lithify/convert/registry"
)

// repository has an image with provenance, as BuildKit pushes it.
type repository struct {
	t     *testing.T
	api   bool // its registry lists referrers
	ref   string
	dst   convert.Target
	root  ocispec.Descriptor
	image ocispec.Descriptor
}

// eachKind runs a test with a registry that lists referrers and with one that does not.
func eachKind(t *testing.T, test func(*testing.T, *repository)) {
	for _, api := range []bool{true, false} {
		t.Run(fmt.Sprintf("referrers=%v", api), func(t *testing.T) {
			test(t, newRepository(t, api, "{}"))
		})
	}
}

// newRepository has an image with a config, on a registry of its own.
func newRepository(t *testing.T, api bool, config string) *repository {
	t.Helper()
	s := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(api)))
	t.Cleanup(s.Close)
	r := &repository{t: t, api: api, ref: strings.TrimPrefix(s.URL, "http://") + "/app:1"}
	dst, err := registry.Create(r.ref, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.dst = dst
	r.image = r.manifest(ocispec.Manifest{Config: r.blob(ocispec.MediaTypeImageConfig, config)})
	r.build(r.image.Digest)
	return r
}

// build pushes an index of the image and of provenance of what subject names.
func (r *repository) build(subject digest.Digest) {
	said := fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v0.1","subject":[{"name":"x","digest":{"sha256":%q}}],
		"predicateType":"https://slsa.dev/provenance/v1","predicate":{"runDetails":{"builder":{"id":"urn:us"}}}}`, subject.Encoded())
	layer := r.blob("application/vnd.in-toto+json", said)
	layer.Annotations = map[string]string{"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"}
	about := r.manifest(ocispec.Manifest{Config: r.blob(ocispec.MediaTypeImageConfig, "{}"), Layers: []ocispec.Descriptor{layer}})
	about.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": r.image.Digest.String()}
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{r.image, about}}
	index.SchemaVersion = 2
	raw := r.json(index)
	r.root = descriptor(index.MediaType, raw)
	was, err := r.dst.Head(r.t.Context())
	if err != nil && !errors.Is(err, convert.ErrNotFound) {
		r.t.Fatal(err)
	}
	if err := errors.Join(r.dst.PutManifest(r.t.Context(), r.root, raw), r.dst.Tag(r.t.Context(), r.root, raw, was.Digest)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *repository) json(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		r.t.Fatal(err)
	}
	return raw
}

func descriptor(mediaType string, raw []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
}

func (r *repository) blob(mediaType, content string) ocispec.Descriptor {
	r.t.Helper()
	desc := descriptor(mediaType, []byte(content))
	if err := r.dst.Push(r.t.Context(), desc, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }); err != nil {
		r.t.Fatal(err)
	}
	return desc
}

func (r *repository) manifest(m ocispec.Manifest) ocispec.Descriptor {
	r.t.Helper()
	m.SchemaVersion, m.MediaType = 2, ocispec.MediaTypeImageManifest
	raw := r.json(m)
	desc := descriptor(m.MediaType, raw)
	if err := r.dst.PutManifest(r.t.Context(), desc, raw); err != nil {
		r.t.Fatal(err)
	}
	return desc
}

func (r *repository) verify(keys ...ed25519.PublicKey) ([]provenance.Signed, error) {
	r.t.Helper()
	src, err := registry.Open(r.ref, registry.Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	return provenance.Verify(r.t.Context(), src, keys)
}

func newKey(t *testing.T) (ed25519.PrivateKey, ed25519.PublicKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return private, public
}

func TestSign(t *testing.T) {
	eachKind(t, func(t *testing.T, r *repository) {
		key, public := newKey(t)
		_, other := newKey(t)
		if _, err := r.verify(public); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "no signed provenance") {
			t.Errorf("before: %v", err)
		}
		for range 2 {
			if err := provenance.Sign(t.Context(), r.dst, r.root, key); err != nil {
				t.Fatal(err)
			}
		}
		found, err := r.verify(other, public)
		if err != nil || len(found) != 1 || found[0].Image != r.image.Digest || found[0].Builder != "urn:us" {
			t.Errorf("got %+v, %v", found, err)
		}
		if _, err := r.verify(other); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "none of these keys") {
			t.Errorf("by another key: %v", err)
		}
		if refs, err := r.dst.Referrers(t.Context(), r.image.Digest); err != nil || len(refs) != 1 {
			t.Errorf("signed twice it has the referrers %v (%v), want one", refs, err)
		}
		second, _ := newKey(t)
		if err := provenance.Sign(t.Context(), r.dst, r.root, second); err != nil {
			t.Fatal(err)
		}
		if _, err := r.verify(public); err != nil {
			t.Errorf("signed by two: %v", err)
		}
	})
}

// TestChanged: who changes what was said, or attaches it to another image, is found out.
func TestChanged(t *testing.T) {
	for name, tc := range map[string]struct {
		config string
		change func(e map[string]any)
		says   string // nothing: it is verified
	}{
		"nothing": {"{}", func(map[string]any) {}, ""},
		"another builder": {"{}", func(e map[string]any) {
			raw, _ := base64.StdEncoding.DecodeString(e["payload"].(string))
			e["payload"] = base64.StdEncoding.EncodeToString([]byte(strings.Replace(string(raw), "urn:us", "urn:it", 1)))
		}, "none of these keys"},
		"another type":  {"{}", func(e map[string]any) { e["payloadType"] = "text/plain" }, "none of these keys"},
		"no signature":  {"{}", func(e map[string]any) { e["signatures"] = []any{} }, "none of these keys"},
		"another image": {`{"os":"linux"}`, func(map[string]any) {}, "none of these keys"},
	} {
		t.Run(name, func(t *testing.T) {
			eachKind(t, func(t *testing.T, r *repository) {
				key, public := newKey(t)
				if err := provenance.Sign(t.Context(), r.dst, r.root, key); err != nil {
					t.Fatal(err)
				}
				envelope := r.envelope()
				tc.change(envelope)
				other := newRepository(t, r.api, tc.config)
				other.attach(envelope)
				_, err := other.verify(public)
				if tc.says == "" && err != nil || tc.says != "" && (!errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.says)) {
					t.Errorf("%v, want %q", err, tc.says)
				}
			})
		})
	}
}

// attach attaches an envelope to the image.
func (r *repository) attach(envelope map[string]any) {
	r.t.Helper()
	layer := r.blob(provenance.ArtifactType, string(r.json(envelope)))
	m := ocispec.Manifest{ArtifactType: provenance.ArtifactType, Config: r.blob(ocispec.MediaTypeEmptyJSON, "{}"), Layers: []ocispec.Descriptor{layer}, Subject: &r.image}
	desc := r.manifest(m)
	desc.ArtifactType = m.ArtifactType
	r.list(desc)
}

// envelope is the one that is attached to the image.
func (r *repository) envelope() (e map[string]any) {
	r.t.Helper()
	refs, err := r.dst.Referrers(r.t.Context(), r.image.Digest)
	if err != nil || len(refs) != 1 {
		r.t.Fatalf("%v, %v", refs, err)
	}
	var m ocispec.Manifest
	r.read(refs[0], &m)
	r.read(m.Layers[0], &e)
	return e
}

func (r *repository) read(desc ocispec.Descriptor, v any) {
	r.t.Helper()
	if _, err := convert.FetchDocument(r.t.Context(), r.dst, desc, v); err != nil {
		r.t.Fatal(err)
	}
}

// list has a referrer of the image found where there is no API.
func (r *repository) list(desc ocispec.Descriptor) {
	r.t.Helper()
	fallback, err := r.dst.WithTag("sha256-" + r.image.Digest.Encoded())
	if err != nil {
		r.t.Fatal(err)
	}
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{desc}}
	index.SchemaVersion = 2
	raw := r.json(index)
	now := descriptor(index.MediaType, raw)
	if err := errors.Join(fallback.PutManifest(r.t.Context(), now, raw), fallback.Tag(r.t.Context(), now, raw, "")); err != nil {
		r.t.Fatal(err)
	}
}

// TestLies: what BuildKit is said to say of another image is not signed.
func TestLies(t *testing.T) {
	eachKind(t, func(t *testing.T, r *repository) {
		key, _ := newKey(t)
		r.build(digest.FromString("another"))
		if err := provenance.Sign(t.Context(), r.dst, r.root, key); !errdefs.IsInvalidArgument(err) {
			t.Errorf("of another: %v", err)
		}
		if refs, err := r.dst.Referrers(t.Context(), r.image.Digest); err != nil || len(refs) != 0 {
			t.Errorf("it has %v (%v)", refs, err)
		}
	})
}

// crowded is a repository to whose images others attach something at the same time.
type crowded struct {
	convert.Target
	others func()
}

func (c *crowded) WithTag(tag string) (convert.Target, error) {
	dst, err := c.Target.WithTag(tag)
	return &crowded{dst, c.others}, err
}

func (c *crowded) Tag(ctx context.Context, d ocispec.Descriptor, raw []byte, was digest.Digest) error {
	c.others()
	return c.Target.Tag(ctx, d, raw, was)
}

// TestSignTogether: what others attach meanwhile stays.
func TestSignTogether(t *testing.T) {
	eachKind(t, func(t *testing.T, r *repository) {
		key, public := newKey(t)
		second, too := newKey(t)
		once := func() {}
		once = func() {
			once = func() {}
			if err := provenance.Sign(t.Context(), r.dst, r.root, second); err != nil {
				t.Error(err)
			}
		}
		dst := &crowded{r.dst, func() { once() }}
		if err := provenance.Sign(t.Context(), dst, r.root, key); err != nil {
			t.Fatal(err)
		}
		if _, err := r.verify(public); err != nil {
			t.Error(err)
		}
		once() // where the API needs no tag
		if _, err := r.verify(too); err != nil {
			t.Error(err)
		}
	})
}
