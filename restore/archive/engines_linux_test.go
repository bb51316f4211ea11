package archive_test

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/lithify/lithify/restore/archive"
)

var rootFlag = flag.Bool("test.root", false, "run tests that run containers, as root")

// TestCheckpointctl has the field's own viewer look at what we write.
func TestCheckpointctl(t *testing.T) {
	tool, err := exec.LookPath("checkpointctl")
	if err != nil {
		t.Skip("shows archives: needs checkpointctl (test/tools/install.sh)")
	}
	dir := unpacked(t, treeDump(t))
	c, err := archive.Open(dir, archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	c.Base.ID = imageID
	for format, engine := range map[archive.Format]string{archive.Containerd: "containerd", archive.CRIO: "CRI-O", archive.Podman: "Podman"} {
		file := filepath.Join(t.TempDir(), "ck.tar")
		if err := os.WriteFile(file, write(t, dir, c, format), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(tool, "inspect", "--all", file).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", format, err, out)
		}
		for _, want := range []string{"Engine: " + engine, "Checkpointed: 2026-11-26T12:00:00", "Process tree", "Pages written"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: no %q in\n%s", format, want, out)
			}
		}
	}
}

// TestPodman reads what Podman exports, and has Podman restore it after it was an archive
// of containerd and of CRI-O. That /data is there then is our doing: Podman 4.3.1 names it in
// its own deleted.files, beside the new file in it.
func TestPodman(t *testing.T) {
	p := newPodman(t)
	p.run("run", "--detach", "--name=source", "--network=none", "--security-opt=seccomp=unconfined", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024",
		"localhost/box:1", "sh", "-c", `rm /etc/gone; rm -r /data; mkdir /data; echo new >/data/new; echo up >/tmp/up; while :; do sleep 1; done`)
	p.wait("source", "/tmp/up")
	exported := filepath.Join(p.dir, "source.tar.zst")
	p.run("container", "checkpoint", "--export="+exported, "source")

	f, err := os.Open(exported)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := filepath.Join(p.dir, "podman")
	c, err := archive.Read(t.Context(), f, dir, archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if c.Format != archive.Podman || c.Name != "source" || c.Runtime != "runc" || c.Base.Name != "localhost/box:1" ||
		c.Base.ID.Encoded() != p.run("image", "inspect", "--format={{.Id}}", "localhost/box:1") || time.Since(c.Checkpointed) > time.Hour {
		t.Errorf("got %+v", c)
	}
	if got, err := archive.Validate(dir); err != nil || got.Processes[0].Command != "sh" {
		t.Errorf("images %+v, %v", got, err)
	}
	c.Base.Digest = digest.Digest(p.run("image", "inspect", "--format={{.Digest}}", "localhost/box:1"))
	for _, format := range []archive.Format{archive.Containerd, archive.CRIO, archive.Podman} {
		dir, c = p.convert(dir, c, format)
	}
	var b bytes.Buffer
	if err := archive.Write(t.Context(), &b, dir, c, archive.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(p.dir, "again.tar")
	if err := os.WriteFile(again, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	p.run("container", "restore", "--import="+again, "--name=restored")
	if got, want := p.run("exec", "restored", "sh", "-c", "cat /tmp/up /data/new; ls /data; test -e /etc/gone || echo deleted"), "up\nnew\nnew\ndeleted"; got != want {
		t.Errorf("in the restored container %q, want %q", got, want)
	}
}

// podman is Podman with a store of its own and an image in it.
type podman struct {
	t    *testing.T
	dir  string
	base []string
}

func newPodman(t *testing.T) *podman {
	t.Helper()
	if !*rootFlag || testing.Short() {
		t.Skip("runs containers of Podman: run as root with -test.root and without -short")
	}
	for _, tool := range []string{"podman", "runc", "criu", "busybox"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("runs containers of Podman: needs %s (apt-get install podman, test/tools/install.sh)", tool)
		}
	}
	dir, err := os.MkdirTemp("", "podman-") // sockets need a short name
	if err != nil {
		t.Fatal(err)
	}
	p := &podman{t: t, dir: dir, base: []string{"--root=" + dir + "/root", "--runroot=" + dir + "/run", "--runtime=runc"}}
	t.Cleanup(func() {
		p.run("rm", "--all", "--force", "--time=0")
		p.run("system", "prune", "--all", "--force")
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	image := filepath.Join(dir, "image.tar")
	if err := os.WriteFile(image, boxOf(t), 0o600); err != nil {
		t.Fatal(err)
	}
	p.run("import", image, "localhost/box:1")
	return p
}

func (p *podman) try(args ...string) (string, error) {
	cmd := exec.Command("podman", append(p.base[:len(p.base):len(p.base)], args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		p.t.Logf("podman %s: %s", strings.Join(args, " "), stderr.Bytes())
	}
	return strings.TrimSpace(string(out)), err
}

func (p *podman) run(args ...string) string {
	p.t.Helper()
	out, err := p.try(args...)
	if err != nil {
		p.t.Fatalf("podman %s: %v", args[0], err)
	}
	return out
}

// wait waits until a file is in a container, or a minute.
func (p *podman) wait(container, file string) {
	p.t.Helper()
	p.run("exec", container, "sh", "-c", untilThere(file))
}

// convert makes an archive of another format and unpacks it.
func (p *podman) convert(dir string, c *archive.Checkpoint, to archive.Format) (string, *archive.Checkpoint) {
	p.t.Helper()
	var b bytes.Buffer
	if err := archive.Write(p.t.Context(), &b, dir, c, archive.WriteOptions{Format: to, Below: dataBelow}); err != nil {
		p.t.Fatal(err)
	}
	next := filepath.Join(p.dir, "as-"+string(to))
	c, err := archive.Read(p.t.Context(), &b, next, archive.Limits{})
	if err != nil {
		p.t.Fatal(err)
	}
	return next, c
}

// untilThere is a command that waits for a file, and fails after a minute.
func untilThere(file string) string {
	return `i=0; until test -e ` + file + `; do i=$((i+1)); test $i -lt 600 || exit 1; sleep 0.1; done`
}

// boxOf is a root with busybox in it, and files to change.
func boxOf(t *testing.T) []byte {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	members := []member{{name: "bin/busybox", body: string(program), mode: 0o755}, {name: "etc/gone", body: "g"}, {name: "etc/kept", body: "k"}, {name: "data/old", body: "o"}, {name: "tmp/", kind: '5', mode: 0o777}}
	for _, applet := range []string{"sh", "sleep", "ls", "cat", "rm", "mkdir", "test"} {
		members = append(members, member{name: "bin/" + applet, kind: '2', link: "busybox"})
	}
	return makeTar(t, members...)
}
