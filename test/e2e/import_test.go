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
