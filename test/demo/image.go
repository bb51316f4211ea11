package main

import (
	"archive/tar"
	"context"
	"io"
	"os/exec"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/lithify/lithify/test/corpus"
)

// pushToolchain pushes an image of two layers: a bare root, and this machine's
// Go tree in /usr/local/go.
func pushToolchain(ctx context.Context, ref string) error {
	tag, err := name.NewTag(ref, name.Insecure)
	if err != nil {
		return err
	}
	goroot, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	base, err := layer(func(w *tar.Writer) error {
		for _, d := range []string{"./", "etc/", "usr/", "usr/local/"} {
			if err := w.WriteHeader(&tar.Header{Name: d, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
				return err
			}
		}
		return w.WriteHeader(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777})
	})
	if err != nil {
		return err
	}
	tree, err := layer(func(w *tar.Writer) error {
		return corpus.AddTree(w, strings.TrimSpace(string(goroot)), "usr/local/go")
	})
	if err != nil {
		return err
	}
	image, err := mutate.AppendLayers(empty.Image, base, tree)
	if err != nil {
		return err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config.Env = []string{"PATH=/usr/local/go/bin:/usr/bin:/bin"}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return err
	}
	return remote.Write(tag, image, remote.WithContext(ctx))
}

// layer is a gzip layer of what fill writes; it is written anew each time it is
// read and never held in memory.
func layer(fill func(*tar.Writer) error) (v1.Layer, error) {
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() {
			t := tar.NewWriter(w)
			err := fill(t)
			if err == nil {
				err = t.Close()
			}
			w.CloseWithError(err)
		}()
		return r, nil
	})
}
