package convert_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/erofs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ranged is a registry of which no blob is fetched whole.
type ranged struct {
	convert.Source
	t        *testing.T
	fetched  atomic.Int64 // bytes
	requests atomic.Int64
}

func (r *ranged) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	r.t.Errorf("all of %s is fetched", desc.Digest)
	return nil, convert.ErrNotFound
}

func (r *ranged) FetchRange(ctx context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	r.fetched.Add(n)
	r.requests.Add(1)
	return r.Source.(interface {
		FetchRange(ctx context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error)
	}).FetchRange(ctx, desc, off, n)
}

// TestRandomRanges reads a file out of a compressed layer in a registry, and random
// ranges, by range requests and the chunk index alone.
func TestRandomRanges(t *testing.T) {
	h := newHub(t)
	noise := make([]byte, 10<<20)
	rand.NewChaCha8([32]byte{7}).Read(noise)
	src := h.target("app:1")
	tag(t, src, manifest(t, src, "linux", "amd64", gz(t, file{name: "first", body: string(noise)}, file{name: "wanted", body: "here"}, file{name: "last", body: string(noise)})))
	for _, dialect := range []erofs.Dialect{erofs.DialectLegacy, erofs.DialectSpec} {
		dst := h.target("app:" + string(dialect))
		convertTo(t, h.source("app:1"), dst, convert.Options{Platforms: amd64.Platforms, Profile: erofs.ProfileZstd, Dialect: dialect})
		pairs := must(convert.Pairs(t.Context(), dst, nil))(t)
		layer := pairs[0].Layers[0]
		dec := must(zstd.NewReader(bytes.NewReader(read(t, dst, layer))))(t)
		image := must(io.ReadAll(dec))(t)
		dec.Close()

		r := &ranged{Source: dst, t: t}
		img := must(erofs.OpenImage(convert.ReaderAt(t.Context(), r, layer), layer))(t)
		fsys := must(erofs.Open(img))(t)
		f := must(fsys.Open("wanted"))(t)
		if got := must(io.ReadAll(f))(t); string(got) != "here" {
			t.Errorf("%s: read %q", dialect, got)
		}
		if n := r.fetched.Load(); n > 1<<20 || r.requests.Load() > 8 {
			t.Errorf("%s: %d bytes in %d requests of a blob of %d", dialect, n, r.requests.Load(), layer.Size)
		}
		rnd := rand.New(rand.NewPCG(1, 2))
		for range 50 {
			off := rnd.IntN(len(image))
			p := make([]byte, min(rnd.IntN(6<<20), len(image)-off))
			if _, err := img.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, image[off:off+len(p)]) {
				t.Fatalf("%s: %d bytes at %d: %v", dialect, len(p), off, err)
			}
		}
	}
}
