//go:build linux

package e2e_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"

	"github.com/lithify/lithify/restore/archive"
)

// TestCheckpointImport has a checkpoint written as each engine writes it, and restores the
// image that is made of that.
func TestCheckpointImport(t *testing.T) {
	d, registry, c, ref := saved(t, 2, "overlayfs")
	at := c.count(t)
	image, err := crane.Pull(ref, crane.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	tar, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "saved")
	cp, err := archive.Read(t.Context(), tar, dir, archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	base := cp.Base.Name[:strings.LastIndexByte(cp.Base.Name, ':')] + "@" + cp.Base.Digest.String()
	for _, format := range []archive.Format{archive.Containerd, archive.CRIO, archive.Podman} {
		t.Run(string(format), func(t *testing.T) {
			var b bytes.Buffer
			if err := archive.Write(t.Context(), &b, dir, cp, archive.WriteOptions{Format: format}); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "checkpoint.tar")
			if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			imported := strings.TrimSpace(output(t, lithify(t), "checkpoint", "import", "--insecure", "--base", base, file, registry+"/imported:"+string(format)))
			name := "from-" + string(format)
			two := d.restored(t, name)
			output(t, lithify(t), d.restoreArgs(imported, name)...)
			two.goesOn(t, at)
			if got := two.does(t, "ls /etc/issue /wrong 2>/dev/null || true"); got != "" {
				t.Errorf("in the restored container: %q, want no file that was removed or should not be", got)
			}
			if err := os.Truncate(file, int64(b.Len()/2)); err != nil {
				t.Fatal(err)
			}
			if code, said := exit(t, lithify(t), "checkpoint", "import", "--insecure", "--base", base, file, registry+"/half:1"); code != 3 || !strings.Contains(said, "damaged") {
				t.Errorf("half of the archive: exit code %d, %q; want 3", code, said)
			}
		})
	}
	if got := strings.TrimSpace(tags(t, registry, "half")); got != "" {
		t.Errorf("something was published of half an archive: %s", got)
	}
}

// TestCheckpointImportNative restores what containerd's own client has made, out of its
// store and out of a file of its.
func TestCheckpointImportNative(t *testing.T) {
	if testing.Short() {
		t.Skip("containerd's own checkpoints, two restored: long lane")
	}
	d, registry, c := startCounting(t, 2, "overlayfs")
	c.goesOn(t, 3)
	at := c.count(t)
	d.ctr("containers", "checkpoint", "--task", "--rw", "--image", c.id, "native")
	d.ctr("containers", "checkpoint", "--task", "--rw", c.id, "unpinned")
	file := filepath.Join(t.TempDir(), "native.tar")
	d.ctr("images", "export", "--skip-manifest-json", file, "native")
	plain := filepath.Join(t.TempDir(), "plain.tar")
	d.ctr("images", "export", "--skip-manifest-json", plain, "native")
	for name, src := range map[string]string{"stored": "containerd:native", "exported": "oci-archive:" + file, "plain": plain} {
		t.Run(name, func(t *testing.T) {
			ref := strings.TrimSpace(output(t, lithify(t), "checkpoint", "import", "--insecure", "--containerd", d.address, src, registry+"/imported:"+name))
			raw, err := crane.Manifest(ref, crane.Insecure)
			if got := string(raw); err != nil || !strings.Contains(got, `"org.criu.checkpoint.container.name":"`+c.id+`"`) || !strings.Contains(got, registry+"/base:1") {
				t.Errorf("%v: %s: want the container %s and its image", err, got, c.id)
			}
			two := d.restored(t, name)
			output(t, lithify(t), d.restoreArgs(ref, name)...)
			two.goesOn(t, at)
			if got := two.does(t, "ls /etc/issue /wrong 2>/dev/null || true"); got != "" {
				t.Errorf("in the restored container: %q, want no file that was removed or should not be", got)
			}
		})
	}
	for src, want := range map[string]string{"containerd:unpinned": "--base", "containerd:none": "not found", "oci-archive:" + file + ":none": "no image"} {
		if code, said := exit(t, lithify(t), "checkpoint", "import", "--insecure", "--containerd", d.address, src, registry+"/refused:1"); code == 0 || !strings.Contains(said, want) {
			t.Errorf("%s: exit code %d, %q; want it to say %q", src, code, said, want)
		}
	}
	if got := strings.TrimSpace(tags(t, registry, "refused")); got != "" {
		t.Errorf("something was published: %s", got)
	}
}
