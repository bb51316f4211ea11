package archive_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/lithify/lithify/restore/archive"
)

// TestContainerd reads what containerd's CRI plugin writes, and has the last containerd whose
// plugin restores do that, after it was an archive of CRI-O and of Podman: from a file, and
// from an image that it knows by our annotations.
func TestContainerd(t *testing.T) {
	c := newCRI(t)
	pod := c.call("run", "source")
	source := c.call("create", pod, "source", "web", c.registry+"/box:1", "sh", "-c",
		`rm -r /data; mkdir /data; echo new >/data/new; echo changed >/etc/kept; i=0; while :; do echo $i >/tmp/count; i=$((i+1)); sleep 0.1; done`)
	c.call("start", source)
	c.wait(source, "/tmp/count")
	c.call("exec", source, "rm", "/etc/gone")
	file := filepath.Join(c.dir, "checkpoint.tar")
	c.call("checkpoint", source, file)
	c.call("removepod", pod)

	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := filepath.Join(c.dir, "read")
	ck, err := archive.Read(t.Context(), f, dir, archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if ck.Format != archive.Containerd || ck.Name != "web" || ck.Pod.Name != "source" || ck.Runtime != "runc" || ck.Base.Name != c.registry+"/box:1" ||
		ck.Base.Digest != c.base.digest || ck.Base.ID != c.base.id || time.Since(ck.Checkpointed) > time.Hour {
		t.Errorf("got %+v, want the image %+v", ck, c.base)
	}
	if got, err := archive.Validate(dir); err != nil || got.Processes[0].Command != "sh" || got.Dump == nil {
		t.Errorf("images %+v, %v", got, err)
	}
	var b bytes.Buffer
	for _, to := range []archive.Format{archive.CRIO, archive.Podman, archive.Containerd} {
		b.Reset()
		if err := archive.Write(t.Context(), &b, dir, ck, archive.WriteOptions{Format: to, Below: dataBelow}); err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(c.dir, string(to))
		if ck, err = archive.Read(t.Context(), bytes.NewReader(b.Bytes()), dir, archive.Limits{}); err != nil {
			t.Fatal(err)
		}
	}
	again := filepath.Join(c.dir, "again.tar")
	if err := os.WriteFile(again, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	c.restores("file", again)
	c.push("checkpoint", b.Bytes(), nil, ck.ImageAnnotations())
	c.call("pull", c.registry+"/checkpoint:1")
	c.restores("image", c.registry+"/checkpoint:1")
}

func dataBelow(dir string) ([]string, error) {
	if dir != "data" {
		return nil, os.ErrNotExist
	}
	return []string{"old"}, nil
}

// criPlugin is containerd with a registry and a store of its own.
type criPlugin struct {
	t                     *testing.T
	dir, socket, registry string
	base                  struct{ digest, id digest.Digest }
}

func newCRI(t *testing.T) *criPlugin {
	t.Helper()
	if !*rootFlag || testing.Short() {
		t.Skip("runs containers of containerd: run as root with -test.root and without -short")
	}
	for _, tool := range []string{"containerd23", "containerd-shim-runc-v2", "cri", "runc", "criu", "busybox"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("runs containers of containerd 2.3: needs %s (test/tools/install.sh)", tool)
		}
	}
	dir, err := os.MkdirTemp("", "cri-") // sockets need a short name
	if err != nil {
		t.Fatal(err)
	}
	c := &criPlugin{t: t, dir: dir, socket: dir + "/s"}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	c.registry = strings.TrimPrefix(server.URL, "http://")
	files := boxOf(t)
	c.push("pause", files, []string{"sleep", "1000000"}, nil)
	box := c.push("box", files, nil, nil)
	d, err := box.Digest()
	if err != nil {
		t.Fatal(err)
	}
	id, err := box.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	c.base.digest, c.base.id = digest.Digest(d.String()), digest.Digest(id.String())
	c.start()
	c.call("pull", c.registry+"/pause:1")
	c.call("pull", c.registry+"/box:1")
	return c
}

// start starts containerd and waits until it answers.
func (c *criPlugin) start() {
	c.t.Helper()
	config := fmt.Sprintf(`version = 3
root = "%[1]s/root"
state = "%[1]s/state"
[grpc]
  address = "%[1]s/s"
[ttrpc]
  address = "%[1]s/t"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "%[2]s/pause:1"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  enable_experimental_restore_via_create = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
`, c.dir, c.registry)
	file := filepath.Join(c.dir, "config.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		c.t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(c.dir, "log"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command("containerd23", "--config", file)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	c.t.Cleanup(func() {
		if c.t.Failed() {
			b, _ := os.ReadFile(out.Name())
			c.t.Logf("containerd:\n%s", b)
		}
		cmd.Process.Signal(os.Interrupt)
		<-ended
	})
	for end := time.Now().Add(time.Minute); ; {
		if _, err = c.try("version"); err == nil {
			return
		}
		select {
		case err := <-ended:
			ended <- err
			c.t.Fatalf("containerd ended: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(end) {
			c.t.Fatalf("containerd does not answer: %v", err)
		}
	}
}

// push makes an image of one layer.
func (c *criPlugin) push(repository string, layer []byte, command []string, annotations map[string]string) v1.Image {
	c.t.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer)), nil }, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		c.t.Fatal(err)
	}
	img, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), l)
	if err == nil {
		img, err = mutate.Config(img, v1.Config{Cmd: command, Env: []string{"PATH=/bin"}})
	}
	if err != nil {
		c.t.Fatal(err)
	}
	img = mutate.Annotations(img, annotations).(v1.Image)
	ref, err := name.ParseReference(c.registry + "/" + repository + ":1")
	if err == nil {
		err = remote.Write(ref, img)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return img
}

func (c *criPlugin) try(args ...string) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.Command("cri", append([]string{c.socket}, args...)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("cri %s: %w: %s", args[0], err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), err
}

func (c *criPlugin) call(args ...string) string {
	c.t.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.t.Fatal(err)
	}
	if args[0] == "run" {
		c.t.Cleanup(func() { c.try("removepod", out) }) // again, if all went well
	}
	return out
}

// wait waits until a file is in a container, or a minute.
func (c *criPlugin) wait(container, file string) {
	c.t.Helper()
	c.call("exec", container, "sh", "-c", untilThere(file))
}

// restores has a container made of a checkpoint, and looks how it goes on.
func (c *criPlugin) restores(pod, checkpoint string) {
	c.t.Helper()
	id := c.call("run", pod)
	container := c.call("create", id, pod, "web", checkpoint, "sh")
	c.call("start", container)
	got := c.call("exec", container, "sh", "-c", "rm /tmp/count; "+untilThere("/tmp/count")+"; cat /data/new /etc/kept; ls /data; test -e /etc/gone || echo deleted")
	if want := "new\nchanged\nnew\ndeleted"; got != want {
		c.t.Errorf("restored from %s: %q, want %q", pod, got, want)
	}
	c.call("removepod", id)
}
