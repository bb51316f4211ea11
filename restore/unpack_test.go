package restore

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/restore/archive"
	"github.com/lithify/lithify/restore/image"
)

// registryOf starts one that answers to requests for another's blobs as blobs does, and gives
// the source of web in it.
func registryOf(t *testing.T, blobs http.HandlerFunc) func(repository string) convert.Target {
	t.Helper()
	all := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v2/other/blobs/") {
			blobs(w, r)
			return
		}
		all.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return func(repository string) convert.Target {
		dst, err := registry.Create(strings.TrimPrefix(srv.URL, "http://")+"/"+repository+":saved", registry.Options{Insecure: true})
		if err != nil {
			t.Fatal(err)
		}
		return dst
	}
}

// What a machine has unpacked is given to those alone whose registry has it for them: anybody
// may write a manifest that names it.
func TestCachedForWhoMayRead(t *testing.T) {
	content := []byte("memory of a process, in no archive: nobody looks into it")
	layer := image.Blob{
		Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerZstd, Digest: digest.FromBytes(content), Size: int64(len(content))},
		DiffID:     digest.FromBytes(content),
		Open:       func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
	}
	cp := &archive.Checkpoint{Format: archive.Containerd, Name: "web", Checkpointed: time.Now()}
	root := t.TempDir()
	restores := func(src convert.Target) *run {
		img, err := image.Open(t.Context(), src)
		if err != nil {
			t.Fatal(err)
		}
		return &run{img: img, opts: Options{Root: root}.withDefaults()}
	}

	denied := registryOf(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	lies := registryOf(t, func(w http.ResponseWriter, r *http.Request) { // and has it not
		if r.Method != http.MethodHead {
			w.WriteHeader(http.StatusNotFound)
		}
	})
	mine := denied("mine")
	desc, err := image.Push(t.Context(), mine, []image.Blob{layer}, cp, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := mine.Fetch(t.Context(), desc)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	manifest, err := io.ReadAll(raw)
	if err != nil {
		t.Fatal(err)
	}

	_, release, err := restores(mine).cache().get(t.Context(), restores(mine).unpacked(), func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if _, err := restores(mine).checkpoint(t.Context()); err == nil || errdefs.IsNotFound(err) {
		t.Errorf("its owner: got %v, want that what is there is no checkpoint", err)
	}
	for name, other := range map[string]convert.Target{"without rights": denied("other"), "of a registry that lies": lies("other")} {
		if err := other.PutManifest(t.Context(), desc, manifest); err != nil {
			t.Fatal(err)
		}
		if err := other.Tag(t.Context(), desc, manifest, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := restores(other).checkpoint(t.Context()); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), layer.Digest.String()) {
			t.Errorf("another %s: got %v, want it not to be found", name, err)
		}
	}
}
