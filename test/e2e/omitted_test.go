//go:build linux

package e2e_test

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/lithify/lithify/test/corpus"
)

// omitted is what a container of corpus.Linked sees, whatever it runs on.
var omitted = map[string]entry{
	"/":                  {Mode: "40755"},
	"/secret":            {Mode: "40700", UID: 1000, GID: 1000},
	"/secret/a":          {Mode: "100640", UID: 7, GID: 8, Content: "lower a"},
	"/secret/b":          {Mode: "100644", Content: "upper b"},
	"/tmp":               {Mode: "41777"},
	"/tmp/x":             {Mode: "40755"},
	"/tmp/x/y":           {Mode: "100644", Content: "upper y"},
	"/opaque":            {Mode: "40755"},
	"/opaque/seen":       {Mode: "100644", Content: "seen"},
	"/opaque/hidden":     {Error: "no such file or directory"},
	"/gone":              {Error: "no such file or directory"},
	"/etc/shared":        {Mode: "100640", UID: 7, GID: 8, Content: "lower shared"},
	"/linked":            {Mode: "100640", UID: 7, GID: 8, Content: "lower shared"},
	"/.wh..wh.plnk":      {Error: "no such file or directory"},
	"/.wh.nothing-below": {Error: "no such file or directory"},
	"/nothing-below":     {Error: "no such file or directory"},
	"/etc/.wh..wh..opq":  {Error: "no such file or directory"},
}

// seenOn is what a container of corpus.Omitted sees: no link, and on overlayfs one
// directory more, because containerd drops AUFS's junk and keeps where it lay.
func seenOn(snapshotter string) map[string]entry {
	want := maps.Clone(omitted)
	want["/linked"] = omitted["/gone"]
	if snapshotter == "overlayfs" {
		want["/.wh..wh.plnk"] = entry{Mode: "40755"}
	}
	return want
}

// probeImage is an image of test/corpus that runs the probe.
func probeImage(t *testing.T, mt types.MediaType, build func(types.MediaType, []byte) (v1.Image, error)) v1.Image {
	t.Helper()
	program, err := os.ReadFile(program(t, "probe", "./probe"))
	if err != nil {
		t.Fatal(err)
	}
	image, err := build(mt, program)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// see runs the image and gives what is in omitted, links left out: a file copied
// up has one less.
func (d *daemon) see(ref, snapshotter string) map[string]entry {
	d.t.Helper()
	var paths []string
	for p := range omitted {
		paths = append(paths, p)
	}
	seen := d.probe(ref, snapshotter, paths...)
	for p, e := range seen {
		e.Links = 0
		seen[p] = e
	}
	return seen
}

func TestOmittedParents(t *testing.T) {
	d := startContainerd(t)
	registry := startRegistry(t)
	for name, mt := range map[string]types.MediaType{"oci": types.OCILayer, "docker": types.DockerLayer} {
		t.Run(name, func(t *testing.T) {
			src := fmt.Sprintf("%s/omitted:%s", registry, name)
			push(t, probeImage(t, mt, corpus.Linked), src)
			for _, profile := range []string{"erofs", "erofs+zstd", "erofs-tar"} {
				t.Run(profile, func(t *testing.T) {
					ref := convert(t, src, fmt.Sprintf("%s/omitted:%s-%d", registry, name, len(profile)), "--replace", "--profile", profile)
					d := daemon{t: t, address: d.address}
					d.pull(ref, "erofs")
					if diff := cmp.Diff(omitted, d.see(ref, "erofs")); diff != "" {
						t.Errorf("in the container (-want +got):\n%s", diff)
					}
				})
			}
		})
	}
	t.Run("overlayfs agrees", func(t *testing.T) {
		d := daemon{t: t, address: d.address}
		ref := registry + "/omitted:overlayfs"
		push(t, probeImage(t, types.OCILayer, corpus.Omitted), ref)
		d.pull(ref, "overlayfs")
		if diff := cmp.Diff(seenOn("overlayfs"), d.see(ref, "overlayfs")); diff != "" {
			t.Errorf("the original on overlayfs (-want +got):\n%s", diff)
		}
	})
	// What lithify is measured against: containerd's erofs differ runs mkfs.erofs
	// on the tar layers of the original.
	t.Run("mkfs.erofs in containerd opens the directory", func(t *testing.T) {
		d := daemon{t: t, address: d.address}
		ref := registry + "/omitted:mkfs"
		push(t, probeImage(t, types.OCILayer, corpus.Omitted), ref)
		d.pull(ref, "erofs")
		if got := d.see(ref, "erofs")["/secret"].Mode; got != "40777" {
			t.Errorf("/secret has mode %s: mkfs.erofs no longer breaks it, so say so no more", got)
		}
	})
}

// TestMkfsOpensOmittedDirectories shows on one layer what mkfs.erofs does.
func TestMkfsOpensOmittedDirectories(t *testing.T) {
	needRoot(t)
	image := probeImage(t, types.OCILayer, corpus.Omitted)
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	tar, blob := filepath.Join(dir, "upper.tar"), filepath.Join(dir, "upper.erofs")
	r, err := layers[1].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tar, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	output(t, need(t, "mkfs.erofs"), "--tar=f", "--aufs", "--quiet", "-Enoinline_data", blob, tar)
	info, err := os.Stat(filepath.Join(mountImage(t, blob), "secret"))
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o777 {
		t.Errorf("secret has mode %o: mkfs.erofs no longer breaks it, so say so no more", got)
	}
}
