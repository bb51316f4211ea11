//go:build linux

package e2e_test

import (
	"archive/tar"
	"cmp"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/lithify/lithify/test/corpus"
)

// TestLayerCache has containerd find the layers of an image in a directory that lithify has made,
// fetch none of them, and run it. What was left out it fetches and converts.
func TestLayerCache(t *testing.T) {
	needRoot(t)
	registry := startRegistry(t)
	probe, err := os.ReadFile(program(t, "probe", "./probe"))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1e9, 0)
	dir := func(w *tar.Writer, name string, mode int64) error {
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode, ModTime: at})
	}
	var layers []v1.Layer
	for _, fill := range []func(*tar.Writer) error{
		func(w *tar.Writer) error {
			return cmp.Or(dir(w, "./", 0o755), corpus.File(w, tar.Header{Name: "probe", Mode: 0o755, ModTime: at}, string(probe)),
				dir(w, "data/", 0o750), corpus.File(w, tar.Header{Name: "data/a", Mode: 0o640, Uid: 7, ModTime: at}, "a"))
		},
		func(w *tar.Writer) error {
			return cmp.Or(dir(w, "data/", 0o750), corpus.File(w, tar.Header{Name: "data/b", Mode: 0o604, ModTime: at}, "b"))
		},
		func(w *tar.Writer) error { // which does not list data
			return corpus.File(w, tar.Header{Name: "data/c", Mode: 0o600, ModTime: at}, "c")
		},
	} {
		l, err := corpus.Built(types.OCILayer, fill)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	image, err := corpus.Image(corpus.Linux, []string{"/probe"}, layers...)
	if err != nil {
		t.Fatal(err)
	}
	ref := registry + "/cached:1"
	push(t, image, ref)
	cache, err := os.MkdirTemp("/var/tmp", "lithify-cache") // file-backed mounts need ext4
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(cache) })
	out := output(t, lithify(t), "cache", "export", "--insecure", "--platform", "linux/amd64", ref, cache)
	if strings.Count(out, " written: ") != 2 || strings.Count(out, " left out: ") != 1 {
		t.Fatalf("lithify cache export:\n%s", out)
	}
	d := startContainerd(t, "[plugins.\"io.containerd.snapshotter.v1.erofs\"]\n  layer_content_caches = [\""+cache+"\"]\n")
	d.ctr("images", "pull", "--plain-http", "--snapshotter", "erofs", ref)
	cached := 0
	for line := range strings.Lines(d.ctr("snapshots", "--snapshotter", "erofs", "ls")) {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.HasPrefix(f[0], "sha256:") {
			continue
		}
		var info struct{ Labels map[string]string }
		if err := json.Unmarshal([]byte(d.ctr("snapshots", "--snapshotter", "erofs", "info", f[0])), &info); err != nil {
			t.Fatal(err)
		}
		if info.Labels["io.containerd.erofs.v1/blob.source"] == "cache" && strings.HasPrefix(info.Labels["io.containerd.erofs.v1/blob.ref"], cache) {
			cached++
		}
	}
	if cached != 2 {
		t.Errorf("%d layers are from the cache, want 2", cached)
	}
	content := d.ctr("content", "ls", "-q")
	for i, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if fetched := strings.Contains(content, digest.String()); fetched != (i == 2) {
			t.Errorf("layer %d was fetched: %v", i, fetched)
		}
	}
	out = d.ctr("run", "--rm", "--cgroup", "/lithify-e2e/cached", "--snapshotter", "erofs", ref, "cached", "/probe", "/data/a", "/data/b", "/data/c")
	var seen map[string]entry
	if err := json.Unmarshal([]byte(out), &seen); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, want := range map[string]string{"/data/a": "a", "/data/b": "b", "/data/c": "c"} {
		if seen[name].Content != want {
			t.Errorf("%s: %+v, want %q", name, seen[name], want)
		}
	}
}
