//go:build linux

package e2e_test

import (
	"archive/tar"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/lithify/lithify/convert/tree"
	"github.com/lithify/lithify/erofs/erofstest"
	"github.com/lithify/lithify/test/corpus"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestKernel converts each real layer, and the odd one, as part of an image in a
// registry; mounts the blob that was published; and compares it with the tar.
func TestKernel(t *testing.T) {
	needRoot(t)
	registry := startRegistry(t)
	for name, format := range map[string]corpus.Format{
		"debian": corpus.Gzip, "go": corpus.Zstd, "node_modules": corpus.Gzip, "odd": corpus.Tar, "devel": corpus.Gzip,
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name == "devel" {
				t.Skip("long: a fifth layer of the same kind as debian")
			}
			l := openLayer(t, name)
			blob, _ := publish(t, registry, l, format)
			erofstest.Fsck(t, blob)
			got, err := tree.Read(t.Context(), mountImage(t, blob))
			if err != nil {
				t.Fatal(err)
			}
			erofstest.CheckTrees(t, got, described(t, l))
		})
	}
}

// TestExtraction compares with what GNU tar extracts as root: it knows nothing of
// layers, but this one has no whiteouts and leaves no parent out.
func TestExtraction(t *testing.T) {
	needRoot(t)
	l := openLayer(t, "debian")
	dir := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	output(t, "tar", "--extract", "--file", l.Path(corpus.Tar), "--directory", dir,
		"--same-permissions", "--same-owner", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls")
	blob, _ := publish(t, startRegistry(t), l, corpus.Gzip)
	erofstest.CompareTrees(t, mountImage(t, blob), dir)
}

func openLayer(t *testing.T, name string) *corpus.Layer {
	t.Helper()
	l, err := corpus.Open(t.Context(), name)
	if errors.Is(err, corpus.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// described is the tree that a layer's tar describes, when another lies below.
func described(t *testing.T, l *corpus.Layer) tree.Tree {
	t.Helper()
	f, err := os.Open(l.Path(corpus.Tar))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files, _, err := erofstest.FromTar(f, false)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// publish makes an image of a small layer and l on it, pushes, converts with these
// flags, too, and fetches the blob that l became.
func publish(t *testing.T, registry string, l *corpus.Layer, format corpus.Format, flags ...string) (blob string, desc ocispec.Descriptor) {
	t.Helper()
	base, err := corpus.Built(types.OCILayer, func(w *tar.Writer) error {
		return w.WriteHeader(&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755})
	})
	if err != nil {
		t.Fatal(err)
	}
	image, err := corpus.Image(corpus.Linux, nil, base, l.Registry(format))
	if err != nil {
		t.Fatal(err)
	}
	src := registry + "/" + l.Name + ":tar"
	push(t, image, src)
	ref := convert(t, src, registry+"/"+l.Name+":erofs", append(flags, "--replace")...)
	layers := manifest[ocispec.Manifest](t, ref).Layers
	desc = layers[len(layers)-1]
	blob = filepath.Join(t.TempDir(), "layer.erofs")
	f, err := os.Create(blob)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := command(t, need(t, "crane"), "blob", "--insecure", registry+"/"+l.Name+"@"+desc.Digest.String())
	cmd.Stdout, cmd.Stderr = f, t.Output()
	if err := cmd.Run(); err != nil {
		t.Fatalf("crane blob: %v", err)
	}
	return blob, desc
}
