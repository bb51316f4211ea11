package corpus_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/opencontainers/go-digest"

	"github.com/lithify/lithify/test/corpus"
)

// TestOdd reads the odd layer with archive/tar, which knows all four sparse
// formats: each must read as the same file.
func TestOdd(t *testing.T) {
	var odd, again bytes.Buffer
	if err := errors.Join(corpus.WriteOdd(&odd), corpus.WriteOdd(&again)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(odd.Bytes(), again.Bytes()) {
		t.Error("the odd layer differs from run to run")
	}
	kinds := map[byte]int{}
	files := map[string][]byte{}
	for r := tar.NewReader(&odd); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kinds[h.Typeflag]++
		if strings.HasPrefix(h.Name, "sparse/") {
			if files[h.Name], err = io.ReadAll(r); err != nil {
				t.Errorf("%s: %v", h.Name, err)
			}
		}
	}
	for _, k := range []byte{tar.TypeReg, tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo, tar.TypeGNUSparse} {
		if kinds[k] == 0 {
			t.Errorf("no entry of type %q", k)
		}
	}
	want := make([]byte, 1<<20+300_000)
	copy(want[4096:], strings.Repeat("first\n", 100))
	copy(want[70_000:], strings.Repeat("second\n", 2000))
	copy(want[1<<20:], "last")
	for _, f := range []string{"pax-0.0", "pax-0.1", "pax-1.0", "gnu"} {
		if got := files["sparse/"+f]; !bytes.Equal(got, want) {
			t.Errorf("sparse/%s: %d bytes that differ from the file described", f, len(got))
		}
	}
	if !bytes.Equal(files["sparse/many"], files["sparse/gnu-many"]) {
		t.Error("sparse/many and sparse/gnu-many differ")
	}
}

func TestOpen(t *testing.T) {
	t.Setenv("LITHIFY_TEST_CORPUS", t.TempDir())
	if _, err := corpus.Open(t.Context(), "no such layer"); err == nil {
		t.Error("a layer that is not there opens")
	}
	first, err := corpus.Open(t.Context(), "odd")
	if errors.Is(err, corpus.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	again, err := corpus.Open(t.Context(), "odd")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first.Blobs, again.Blobs); diff != "" {
		t.Errorf("the second Open differs: %s", diff)
	}
	for _, f := range corpus.Formats {
		raw, err := os.ReadFile(first.Path(f))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := digest.FromBytes(raw), first.Blobs[f].Digest; got != want {
			t.Errorf("%s: got %s, want %s", f, got, want)
		}
	}
}

func TestOmitted(t *testing.T) {
	for _, mt := range []types.MediaType{types.OCILayer, types.DockerLayer} {
		image, err := corpus.Omitted(mt, []byte("program"))
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(image); err != nil {
			t.Errorf("%s: %v", mt, err)
		}
	}
}
