package lint_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/lint"
	"github.com/lithify/lithify/test/imagetest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestUnread: an image of a kind that is not read here violates nothing, and that is told.
func TestUnread(t *testing.T) {
	h := imagetest.NewHub(t)
	m := h.Converted(t, "it:made", spec, layers(t)...)
	raw(2, func(b []byte) []byte { b[1024+12] = 16; return b })(m)
	for _, deep := range []bool{false, true} {
		if list, r := found(t, h.Put(t, "it:1", m), deep); !slices.Equal(list, []string{"unread 3"}) || r.Err(true) != nil {
			t.Errorf("deep %t: got %q", deep, list)
		}
	}
}

// failing is a registry that goes away after some requests for blobs, or in the middle of one.
type failing struct {
	convert.Source
	left int
	cut  bool
}

var errGone = errors.New("the registry is gone")

func (f *failing) request(rc io.ReadCloser, err error) (io.ReadCloser, error) {
	if err != nil {
		return nil, err
	}
	if f.left--; f.left >= 0 {
		return rc, nil
	}
	if !f.cut {
		return nil, errors.Join(errGone, rc.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(rc, 10), gone{}), rc}, nil
}

type gone struct{}

func (gone) Read([]byte) (int, error) { return 0, errGone }

func (f *failing) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return f.request(f.Source.Fetch(ctx, desc))
}

func (f *failing) FetchRange(ctx context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	return f.request(f.Source.(interface {
		FetchRange(ctx context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error)
	}).FetchRange(ctx, desc, off, n))
}

// TestSourceFails: a source that fails is an error, wherever that is, and no fault of the image.
func TestSourceFails(t *testing.T) {
	h := imagetest.NewHub(t)
	for _, opts := range []convert.Options{proven, zstds} {
		src := h.Put(t, "it:1", h.Converted(t, "it:made", opts, layers(t)...))
		for _, deep := range []bool{false, true} {
			for _, cut := range []bool{false, true} {
				failed := 0
				for left := 0; ; left++ {
					_, err := lint.Image(t.Context(), &failing{src, left, cut}, lint.Options{Deep: deep, TempDir: t.TempDir()})
					if err == nil {
						break
					}
					if failed++; !errors.Is(err, errGone) {
						t.Errorf("profile %q, deep %t, cut %t, after %d requests: %v", opts.Profile, deep, cut, left, err)
					}
				}
				if failed < 6 {
					t.Errorf("only %d requests", failed)
				}
			}
		}
	}
}
