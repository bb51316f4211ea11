package build_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/lithify/lithify/build"
)

// contextOf makes a directory of files.
func contextOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestWriteArchive(t *testing.T) {
	dir := contextOf(t, map[string]string{
		".dockerignore": "*\n!src\nsrc/*.o\n", "docker/Dockerfile": "FROM scratch\n", "src/a.c": "a", "src/a.o": "o", "other/b": "b",
	})
	r := build.Request{Context: dir, Dockerfile: filepath.Join(dir, "docker", "Dockerfile")}
	var first, again bytes.Buffer
	name, err := build.WriteArchive(t.Context(), r, &first)
	if err != nil || name != "docker/Dockerfile" {
		t.Fatalf("%q, %v", name, err)
	}
	if _, err := build.WriteArchive(t.Context(), r, &again); err != nil || !bytes.Equal(first.Bytes(), again.Bytes()) {
		t.Errorf("written again it has other bytes (%v)", err)
	}
	var got []string
	z, err := gzip.NewReader(&first)
	if err != nil {
		t.Fatal(err)
	}
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s is %d:%d's", h.Name, h.Uid, h.Gid)
		}
		got = append(got, h.Name)
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"docker/", "docker/Dockerfile", "src/", "src/a.c"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWriteArchiveRefuses(t *testing.T) {
	dir := contextOf(t, map[string]string{"Dockerfile": "FROM scratch\n", "big": strings.Repeat("x", 8192)})
	elsewhere := contextOf(t, map[string]string{"Dockerfile": "FROM scratch\n"})
	for name, tc := range map[string]struct {
		request build.Request
		says    string
	}{
		"over the limit": {build.Request{Context: dir, Limits: build.Limits{Bytes: 4096}}, "4096 bytes (at big)"},
		"outside":        {build.Request{Context: dir, Dockerfile: filepath.Join(elsewhere, "Dockerfile")}, "lies outside"},
	} {
		_, err := build.WriteArchive(t.Context(), tc.request, io.Discard)
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want an invalid argument that says %q", name, err, tc.says)
		}
	}
}
