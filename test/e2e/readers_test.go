//go:build linux

package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/lithify/lithify/test/corpus"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// dual is an index that lithify made from one with BuildKit's attestation and a
// Windows image in it.
type dual struct {
	ref, source string        // tags: readers are given what people type
	digest      string        // of the index
	tar, erofs  digest.Digest // of the two Linux manifests
}

func publishDual(t *testing.T, registry string) dual {
	t.Helper()
	image := probeImage(t, types.OCILayer, corpus.Omitted)
	attestation, err := corpus.Attestation(image)
	if err != nil {
		t.Fatal(err)
	}
	windows, err := corpus.Windows()
	if err != nil {
		t.Fatal(err)
	}
	d := dual{source: registry + "/dual:tar", ref: registry + "/dual:both"}
	push(t, corpus.Index(corpus.Entry(image, corpus.Linux), attestation, windows), d.source)
	d.digest = digestOf(convert(t, d.source, d.ref))
	for _, m := range manifest[ocispec.Index](t, d.ref).Manifests {
		switch {
		case m.Platform == nil || m.Platform.OS != "linux":
		case slices.Contains(m.Platform.OSFeatures, "erofs"):
			d.erofs = m.Digest
		default:
			d.tar = m.Digest
		}
	}
	if d.tar == "" || d.erofs == "" {
		t.Fatalf("the index lacks a variant: tar %q, erofs %q", d.tar, d.erofs)
	}
	return d
}

// TestDualIndex: the originals are there byte for byte, tar first, and converting
// again replaces the variant.
func TestDualIndex(t *testing.T) {
	registry := startRegistry(t)
	d := publishDual(t, registry)
	before, after := manifest[ocispec.Index](t, d.source).Manifests, manifest[ocispec.Index](t, d.ref).Manifests
	var kept []ocispec.Descriptor
	for _, m := range after {
		if m.Digest != d.erofs {
			kept = append(kept, m)
		}
	}
	if diff := cmp.Diff(before, kept); diff != "" {
		t.Errorf("original entries (-before +after):\n%s", diff)
	}
	tarAt := slices.IndexFunc(after, func(m ocispec.Descriptor) bool { return m.Digest == d.tar })
	erofsAt := slices.IndexFunc(after, func(m ocispec.Descriptor) bool { return m.Digest == d.erofs })
	if tarAt > erofsAt {
		t.Errorf("the tar variant is entry %d, the EROFS one %d", tarAt, erofsAt)
	}
	if again := digestOf(convert(t, d.ref, registry+"/dual:again")); again != d.digest {
		t.Errorf("converted again: got %s, want %s", again, d.digest)
	}
}

// TestReaders pulls the dual index by those who will: each gets its variant.
func TestReaders(t *testing.T) {
	registry := startRegistry(t)
	d := publishDual(t, registry)
	t.Run("crane", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "layout")
		output(t, need(t, "crane"), "pull", "--insecure", "--platform", "linux/amd64", "--format", "oci", d.ref, dir)
		wantTop(t, dir, d.tar)
	})
	t.Run("skopeo", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "layout")
		output(t, need(t, "skopeo"), "--override-os", "linux", "--override-arch", "amd64", "copy", "--quiet", "--src-tls-verify=false",
			"--preserve-digests", "docker://"+d.ref, "oci:"+dir+":it")
		wantTop(t, dir, d.tar)
	})
	t.Run("skopeo copies all", func(t *testing.T) {
		dst := registry + "/copy:both"
		output(t, need(t, "skopeo"), "copy", "--all", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+d.ref, "docker://"+dst)
		// skopeo writes an OCI index anew, without fields it does not know.
		if diff := cmp.Diff(entries(t, d.ref), entries(t, dst)); diff != "" {
			t.Errorf("entries of the copy (-original +copy):\n%s", diff)
		}
	})
	t.Run("docker engine's pull", func(t *testing.T) {
		needRoot(t)
		config := manifestAt(t, d, d.tar).Config.Digest
		out := output(t, need(t, "dockerpull"), t.TempDir(), d.ref, "linux/amd64")
		var got struct {
			Config  digest.Digest
			DiffIDs []digest.Digest `json:"diff_ids"`
		}
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatal(err)
		}
		if got.Config != config || len(got.DiffIDs) != 2 {
			t.Errorf("got image %s with %d layers, want %s with 2", got.Config, len(got.DiffIDs), config)
		}
	})
	t.Run("docker's client", func(t *testing.T) {
		docker := need(t, "docker")
		cmd := command(t, docker, "manifest", "inspect", "--insecure", d.ref)
		cmd.Env = append(cmd.Env, "DOCKER_CONFIG="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("docker manifest inspect: %v\n%s", err, out)
		}
		var list ocispec.Index
		if err := json.Unmarshal(out, &list); err != nil {
			t.Fatal(err)
		}
		want := manifest[ocispec.Index](t, d.ref).Manifests
		if len(list.Manifests) != len(want) {
			t.Errorf("got %d manifests, want %d", len(list.Manifests), len(want))
		}
	})
}

// TestContainerdReaders pulls the dual index with both snapshotters, into a store
// for each.
func TestContainerdReaders(t *testing.T) {
	for _, snapshotter := range []string{"overlayfs", "erofs"} {
		t.Run(snapshotter, func(t *testing.T) {
			containerd := startContainerd(t)
			d := publishDual(t, startRegistry(t))
			containerd.pull(d.ref, snapshotter)
			has := containerd.ctr("content", "ls", "-q")
			tar, erofs := layersIn(has, manifestAt(t, d, d.tar)), layersIn(has, manifestAt(t, d, d.erofs))
			// Asked for EROFS, containerd 2.4 fetches both: a tar matches any platform
			// (containerd's pull request 14075 mends that). It runs the right one.
			want := [2]int{2, 0}
			if snapshotter == "erofs" {
				want = [2]int{2, 2}
			}
			if got := [2]int{tar, erofs}; got != want {
				t.Errorf("fetched layers of tar and EROFS: got %v, want %v", got, want)
			}
			if diff := cmp.Diff(seenOn(snapshotter), containerd.see(d.ref, snapshotter)); diff != "" {
				t.Errorf("in the container (-want +got):\n%s", diff)
			}
		})
	}
}

// layersIn counts the layers of m that a list of digests has.
func layersIn(list string, m ocispec.Manifest) (n int) {
	for _, l := range m.Layers {
		if strings.Contains(list, l.Digest.String()) {
			n++
		}
	}
	return n
}

// entries are an index's manifests, with what decides who takes which.
func entries(t *testing.T, ref string) (list []ocispec.Descriptor) {
	t.Helper()
	for _, m := range manifest[ocispec.Index](t, ref).Manifests {
		list = append(list, ocispec.Descriptor{Digest: m.Digest, Platform: m.Platform, Annotations: m.Annotations})
	}
	return list
}

func manifestAt(t *testing.T, d dual, dgst digest.Digest) ocispec.Manifest {
	t.Helper()
	return manifest[ocispec.Manifest](t, d.ref[:strings.LastIndex(d.ref, ":")]+"@"+dgst.String())
}

// wantTop checks the one manifest of a layout.
func wantTop(t *testing.T, dir string, want digest.Digest) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Manifests) != 1 || index.Manifests[0].Digest != want {
		t.Errorf("got %v, want %s alone", index.Manifests, want)
	}
}
