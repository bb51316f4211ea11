package registry_test

import (
	"io"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// zeros is endless.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A layer passes through: what is allocated for 256 MiB there and back stays
// under 8 MiB.
func TestLayersAreStreamed(t *testing.T) {
	const size, most = 256 << 20, 8 << 20
	d, err := digest.FromReader(io.LimitReader(zeros{}, size))
	if err != nil {
		t.Fatal(err)
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: size}
	for name, prefix := range map[string]func(*testing.T) string{
		"distribution": func(t *testing.T) string { return distribution(t) + "/app:v1" },
		"layout":       func(t *testing.T) string { return "oci:" + filepath.Join(t.TempDir(), "layout") },
	} {
		t.Run(name, func(t *testing.T) {
			dst := mustCreate(t, prefix(t))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := dst.Push(t.Context(), desc, func() (io.ReadCloser, error) {
				return io.NopCloser(io.LimitReader(zeros{}, size)), nil
			})
			if err != nil {
				t.Fatal(err)
			}
			rc, err := dst.Fetch(t.Context(), desc)
			if err != nil {
				t.Fatal(err)
			}
			got, err := digest.FromReader(rc)
			rc.Close()
			runtime.ReadMemStats(&after)
			if err != nil || got != d {
				t.Errorf("read %s, %v, want %s", got, err, d)
			}
			used := after.TotalAlloc - before.TotalAlloc
			t.Logf("%d KiB allocated", used>>10)
			if used > most {
				t.Errorf("%d bytes allocated, want at most %d", used, most)
			}
		})
	}
}
