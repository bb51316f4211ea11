package main

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/lithify/lithify/test/corpus"
)

// What ctr images export has written is read as what it is, also where nobody says so.
func TestImportOfALayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	image, err := corpus.Image(corpus.Linux, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := corpus.WriteLayout(dir, "it", image); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "exported.tar")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, src := range []string{file, "oci-archive:" + file} { // which has an image, and no checkpoint
		code, _, said := lithify(t, "checkpoint", "import", src, "oci:"+t.TempDir()+":x")
		if code != 3 || !strings.Contains(said, "no checkpoint of containerd's") {
			t.Errorf("%s: exit code %d, %q, want 3 and what it is", src, code, said)
		}
	}
	if _, _, err := openImport(iotest.OneByteReader(bytes.NewReader(b.Bytes())), "-"); err == nil || !strings.Contains(err.Error(), "write it to a file") {
		t.Errorf("from standard input: %v, want what to do", err)
	}
}
