package convert_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/klauspost/compress/zstd"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// streamed counts the layers that are sent while they are made.
type streamed struct {
	*registry.Repository
	begun, sent atomic.Int32
}

func (s *streamed) PushStream(ctx context.Context, write func(io.Writer) (ocispec.Descriptor, error)) error {
	s.begun.Add(1)
	err := s.Repository.PushStream(ctx, write)
	if err == nil {
		s.sent.Add(1)
	}
	return err
}

func zstdFrames(t *testing.T, parts ...[]byte) (b []byte) {
	t.Helper()
	enc := must(zstd.NewWriter(nil))(t)
	defer enc.Close()
	for _, p := range parts {
		b = enc.EncodeAll(p, b)
	}
	return b
}

// A layer whose size its blob tells is sent without a temporary file, and is the layer
// that a temporary file would have held.
func TestTarLayersAreStreamed(t *testing.T) {
	content := tarOf(t, file{name: "./"}, file{name: "a/b", body: strings.Repeat("content ", 100_000)}, file{name: "c => a/b"})
	var unsized bytes.Buffer
	enc := must(zstd.NewWriter(&unsized))(t)
	if _, err := io.Copy(enc, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	want := digest.Digest("")
	for name, tc := range map[string]struct {
		mediaType   string
		blob        []byte
		begun, sent int32
	}{
		"tar":                  {ocispec.MediaTypeImageLayer, content, 1, 1},
		"gzip":                 {ocispec.MediaTypeImageLayerGzip, gzipped(t, content), 1, 1},
		"gzip, called zstd":    {ocispec.MediaTypeImageLayerZstd, gzipped(t, content), 1, 1},
		"gzip in two members":  {ocispec.MediaTypeImageLayerGzip, append(gzipped(t, content[:1024]), gzipped(t, content[1024:])...), 1, 0},
		"gzip, empty last one": {ocispec.MediaTypeImageLayerGzip, append(gzipped(t, content), gzipped(t, nil)...), 0, 0},
		"zstd":                 {ocispec.MediaTypeImageLayerZstd, zstdFrames(t, content), 1, 1},
		"zstd in two frames":   {ocispec.MediaTypeImageLayerZstd, zstdFrames(t, content[:1024], content[1024:]), 1, 0},
		"zstd of unknown size": {ocispec.MediaTypeImageLayerZstd, unsized.Bytes(), 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			src := h.target("app:1")
			tag(t, src, manifest(t, src, "linux", "amd64", blob{tc.mediaType, tc.blob, digest.FromBytes(content)}))
			dst := &streamed{Repository: h.target("app:2").(*registry.Repository)}
			opts := convert.Options{Profile: erofs.ProfileTar, Verify: convert.VerifyStack, TempDir: t.TempDir()}
			if tc.sent > 0 {
				opts.TempDir = filepath.Join(opts.TempDir, "missing")
			}
			r, err := convert.Image(t.Context(), h.source("app:1"), dst, opts)
			if err != nil {
				t.Fatal(err)
			}
			if begun, sent := dst.begun.Load(), dst.sent.Load(); begun != tc.begun || sent != tc.sent {
				t.Errorf("%d layers begun to be sent while they were made, %d done; want %d and %d", begun, sent, tc.begun, tc.sent)
			}
			made := r.Variants[0].Layers[0].Layer
			blob := read(t, h.source("app:2"), ocispec.Descriptor{Digest: made.Digest, Size: made.Size})
			if !bytes.HasPrefix(blob[4096:], content) {
				t.Error("the tar is not in the blob")
			}
			if want == "" {
				want = made.Digest
			}
			if made.Digest != want {
				t.Errorf("layer %s, want that of all others, %s", made.Digest, want)
			}
		})
	}
}

// A registry that takes no blob in pieces gets it in one.
func TestStreamRefused(t *testing.T) {
	for _, status := range []int{http.StatusMethodNotAllowed, http.StatusServiceUnavailable} {
		inner := ggcr.New()
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPatch {
				w.WriteHeader(status)
				return
			}
			inner.ServeHTTP(w, r)
		}))
		t.Cleanup(s.Close)
		h := &hub{t, strings.TrimPrefix(s.URL, "http://")}
		tag(t, h.target("app:1"), manifest(t, h.target("app:1"), "linux", "amd64", gz(t, file{name: "a", body: strings.Repeat("a", 1<<20)})))
		dst := &streamed{Repository: h.target("app:2").(*registry.Repository)}
		if _, err := convert.Image(t.Context(), h.source("app:1"), dst, convert.Options{Profile: erofs.ProfileTar, Verify: convert.VerifyStack, TempDir: t.TempDir()}); err != nil {
			t.Errorf("status %d: %v", status, err)
		}
		if dst.begun.Load() != 1 || dst.sent.Load() != 0 {
			t.Errorf("status %d: %d begun, %d sent", status, dst.begun.Load(), dst.sent.Load())
		}
	}
}

// What is wrong with a layer is said once, and no blob is left of it.
func TestStreamOfABadLayer(t *testing.T) {
	h := newHub(t)
	content := tarOf(t, file{name: "../up", body: "x"})
	tag(t, h.target("app:1"), manifest(t, h.target("app:1"), "linux", "amd64", blob{ocispec.MediaTypeImageLayerGzip, gzipped(t, content), digest.FromBytes(content)}))
	dst := &streamed{Repository: h.target("app:2").(*registry.Repository)}
	_, err := convert.Image(t.Context(), h.source("app:1"), dst, convert.Options{Profile: erofs.ProfileTar, Verify: convert.VerifyStack, TempDir: t.TempDir()})
	if entry := (*erofs.EntryError)(nil); !errors.As(err, &entry) {
		t.Errorf("got %v, want an EntryError", err)
	}
	if dst.begun.Load() != 1 || dst.sent.Load() != 0 {
		t.Errorf("%d begun, %d sent, want one attempt", dst.begun.Load(), dst.sent.Load())
	}
}
