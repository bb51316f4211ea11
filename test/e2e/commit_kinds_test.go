//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/lithify/lithify/convert/tree"
	"github.com/lithify/lithify/erofs/erofstest"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestCommitStopped: of a container whose process has ended, and which is still there,
// the layer is what the snapshotter has; its process's number may be another's by now.
func TestCommitStopped(t *testing.T) {
	d, registry, c := startOne(t, 2, "overlayfs")
	c.does(t, containerChanges)
	want := c.sees(t)
	d.ctr("tasks", "kill", "--signal", "SIGKILL", c.id)
	c.awaits(t, "STOPPED")
	ref := c.mustCommit(t, registry+"/made:1")
	d.pullFor(ref, "overlayfs", "")
	erofstest.CheckTrees(t, d.start(t, "again", ref, "overlayfs", "").sees(t), want)
}

// TestCommitUserNamespace: the image has the owners that the container sees, so that a
// container of it in the same namespace has them again.
func TestCommitUserNamespace(t *testing.T) {
	d, registry := startContainerd(t), startRegistry(t)
	if err := os.Chmod(filepath.Dir(d.address), 0o711); err != nil { // who is root in the namespace passes here
		t.Fatal(err)
	}
	base := registry + "/base:1"
	push(t, debian(t, 2), base)
	for name, tc := range map[string]struct {
		snapshotter string
		flags       []string
	}{
		"mapped mounts":        {"overlayfs", []string{"--remap-labels"}},
		"a copy of the layers": {"overlayfs", nil},
		"mapped EROFS":         {"erofs", []string{"--remap-labels"}},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "mapped mounts" {
				t.Skip("short lane: one way of three to map owners")
			}
			d := &daemon{t: t, address: d.address}
			d.pullFor(base, tc.snapshotter, "")
			flags := append([]string{"--uidmap", "0:100000:65536", "--gidmap", "0:200000:65536"}, tc.flags...)
			repo := "made" + strings.ReplaceAll(strings.ToLower(name), " ", "")
			c := d.start(t, repo, base, tc.snapshotter, "", flags...)
			c.does(t, containerChanges)
			sees := func(c *container) tree.Tree {
				files := c.sees(t)
				for name, e := range files {
					if tc.flags == nil { // to change the owner of a hard link in overlayfs makes it a file of its own
						e.Same = ""
					}
					files[name] = e
				}
				return files
			}
			want := sees(c)
			ref := c.mustCommit(t, registry+"/"+repo+":1")
			platform := ""
			if tc.snapshotter == "erofs" { // mkfs.erofs misreads the times of a tar: .5 s are 5 ns
				platform = "linux(+erofs)/amd64"
			}
			d.pullFor(ref, tc.snapshotter, platform)
			erofstest.CheckTrees(t, sees(d.start(t, "again"+repo, ref, tc.snapshotter, platform, flags...)), want)

			bare := sees(d.start(t, "bare"+repo, ref, tc.snapshotter, platform))
			for name, e := range want {
				if e.UID >= 100000 {
					e.UID -= 100000
				}
				if e.GID >= 200000 {
					e.GID -= 200000
				}
				want[name] = e
			}
			erofstest.CheckTrees(t, bare, want)
		})
	}
}

// TestCommitCRI: a container as containerd's CRI plugin makes one, in Kubernetes'
// namespace, of an image that has the name of its config too, and whose layers were
// thrown away when they were unpacked.
func TestCommitCRI(t *testing.T) {
	d, registry := startContainerd(t), startRegistry(t)
	base := registry + "/base:1"
	push(t, debian(t, 2), base)
	m := manifest[ocispec.Manifest](t, base)
	cri := func(args ...string) { t.Helper(); d.ctr(append([]string{"--namespace", "k8s.io"}, args...)...) }
	cri("images", "pull", "--plain-http", base)
	cri("images", "tag", base, m.Config.Digest.String())
	for _, l := range m.Layers {
		cri("content", "rm", l.Digest.String())
	}
	id := strings.Repeat("0a1b2c3d", 8)
	cri("run", "-d", "--cgroup", "/lithify-e2e/"+id, "--label", "io.cri-containerd.kind=container", "--label", "io.kubernetes.pod.name=web-0",
		"--label", "io.kubernetes.container.name=web", m.Config.Digest.String(), id)
	t.Cleanup(func() {
		if out, err := exec.Command(need(t, "runc"), "--root", "/run/containerd/runc/k8s.io", "delete", "--force", id).CombinedOutput(); err != nil {
			t.Errorf("runc delete: %v\n%s", err, out)
		}
	})
	cri("tasks", "exec", "--exec-id", "x", id, "/bin/sh", "-ec", "echo new > /new")
	out := output(t, lithify(t), "commit", "--containerd", d.address, "--namespace", "k8s.io", "--insecure", id[:13], registry+"/made:1")
	d.pullFor(strings.TrimSpace(out), "overlayfs", "")
	if got := d.start(t, "again", strings.TrimSpace(out), "overlayfs", "").does(t, "cat /new"); got != "new\n" {
		t.Errorf("/new holds %q", got)
	}
}

// TestCommitBesideOddImages: what another image of the node holds is no reason.
func TestCommitBesideOddImages(t *testing.T) {
	d, registry, c := startOne(t, 1, "overlayfs")
	cl, err := client.New(d.address, client.WithDefaultNamespace("default"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, done, err := cl.WithLease(namespaces.WithNamespace(t.Context(), "default"))
	if err != nil {
		t.Fatal(err)
	}
	defer done(ctx)
	put := func(mediaType, text string) ocispec.Descriptor {
		desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(text), Size: int64(len(text))}
		if err := content.WriteBlob(ctx, cl.ContentStore(), desc.Digest.String(), strings.NewReader(text), desc); err != nil {
			t.Fatal(err)
		}
		return desc
	}
	config := put(ocispec.MediaTypeImageConfig, `{}`)
	for name, target := range map[string]ocispec.Descriptor{ // names that come before the container's image
		"0/no-layers": put(ocispec.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion": 2, "config": {"mediaType": %q, "digest": %q, "size": 2}, "layers": [{"digest": %q}]}`, config.MediaType, config.Digest, config.Digest)),
		"0/no-json":   put(ocispec.MediaTypeImageIndex, "odd"),
	} {
		if _, err := cl.ImageService().Create(ctx, images.Image{Name: name, Target: target}); err != nil {
			t.Fatal(err)
		}
	}
	d.ctr("images", "tag", registry+"/base:1", "moved/base:1") // so that all images are looked at
	d.ctr("images", "rm", registry+"/base:1")
	c.mustCommit(t, registry+"/made:1")
}
