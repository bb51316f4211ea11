//go:build linux

package e2e_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert/tree"
	"github.com/lithify/lithify/erofs/erofstest"
	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/test/corpus"
)

// debian is an image of Debian with small layers above it, n in all, that sleeps.
func debian(t testing.TB, n int) v1.Image {
	t.Helper()
	return debianThat(t, n, "exec sleep 1000000")
}

// debianThat is one that runs a script.
func debianThat(t testing.TB, n int, script string) v1.Image {
	t.Helper()
	return layered(t, corpusLayer(t, "debian"), n, "/bin/sh", "-c", script)
}

// corpusLayer is a layer of the corpus as registries have it.
func corpusLayer(t testing.TB, name string) v1.Layer {
	t.Helper()
	l, err := corpus.Open(t.Context(), name)
	if err != nil {
		t.Skipf("no %s: %v", name, err)
	}
	return l.Registry(corpus.Gzip)
}

// layered is an image of a base and small layers on it, n in all.
func layered(t testing.TB, base v1.Layer, n int, args ...string) v1.Image {
	t.Helper()
	layers := []v1.Layer{base}
	for i := 1; i < n; i++ {
		l, err := corpus.Built(types.OCILayer, func(w *tar.Writer) error {
			for _, h := range []tar.Header{ // a directory that is not listed would be as old as its unpacking
				{Name: "srv/", Typeflag: tar.TypeDir, Mode: 0o755},
				{Name: fmt.Sprintf("srv/layer%d/", i), Typeflag: tar.TypeDir, Mode: 0o750, Uid: i},
			} {
				if err := w.WriteHeader(&h); err != nil {
					return err
				}
			}
			return corpus.File(w, tar.Header{Name: fmt.Sprintf("srv/layer%d/file", i), Mode: 0o640, Uid: i}, fmt.Sprint("layer ", i))
		})
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
	}
	image, err := corpus.Image(corpus.Linux, args, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// container is one that runs until the test ends.
type container struct {
	*daemon
	id          string
	snapshotter string
}

func (d *daemon) start(t testing.TB, id, ref, snapshotter, platform string, flags ...string) *container {
	t.Helper()
	id += "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	args := []string{"run", "-d", "--cgroup", "/lithify-e2e/" + id, "--snapshotter", snapshotter}
	if platform != "" {
		args = append(args, "--platform", platform)
	}
	d.ctr(append(append(args, flags...), ref, id)...)
	t.Cleanup(func() { // the daemon is gone by now, and runc's state lies outside its directories
		if out, err := exec.Command(need(t, "runc"), "--root", "/run/containerd/runc/default", "delete", "--force", id).CombinedOutput(); err != nil {
			t.Errorf("runc delete: %v\n%s", err, out)
		}
	})
	return &container{d, id, snapshotter}
}

// startOne starts a containerd, a registry and a container on an image of n layers.
func startOne(t testing.TB, n int, snapshotter string, more ...string) (d *daemon, registry string, c *container) {
	t.Helper()
	d, registry = startContainerd(t, more...), startRegistry(t)
	base := registry + "/base:1"
	push(t, debian(t, n), base)
	d.pullFor(base, snapshotter, "")
	return d, registry, d.start(t, "one", base, snapshotter, "")
}

// does runs a shell script in the container.
func (c *container) does(t testing.TB, script string) string {
	t.Helper()
	return output(t, need(t, "ctr"), "--address", c.address, "tasks", "exec", "--exec-id", "x"+strconv.Itoa(len(script)), c.id, "/bin/sh", "-ec", script)
}

func (c *container) status(t testing.TB) string {
	t.Helper()
	for line := range strings.Lines(output(t, need(t, "ctr"), "--address", c.address, "tasks", "ls")) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == c.id {
			return f[2]
		}
	}
	return "GONE"
}

func (c *container) root() string {
	return filepath.Join(filepath.Dir(c.address), "state/io.containerd.runtime.v2.task/default", c.id, "rootfs")
}

// sees is the container's root without what is mounted in it.
func (c *container) sees(t testing.TB) tree.Tree {
	t.Helper()
	files, err := tree.Read(t.Context(), c.root())
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range files {
		e.Nlink = 0 // overlayfs counts those of the layer a file comes from
		if len(e.Xattrs) == 0 {
			e.Xattrs = nil
		}
		files[name] = e
	}
	delete(files, ".") // containerd's applier passes over the root's own entry
	return files
}

// commit runs lithify commit and gives what it printed.
func (c *container) commit(t testing.TB, dst string, flags ...string) (string, error) {
	t.Helper()
	args := append([]string{"commit", "--containerd", c.address, "--insecure", c.id, dst}, flags...)
	return try(t, lithify(t), args...)
}

func (c *container) mustCommit(t testing.TB, dst string, flags ...string) string {
	t.Helper()
	out, err := c.commit(t, dst, flags...)
	if err != nil {
		t.Fatal(err)
	}
	ref := regexp.MustCompile(`^(\S+@sha256:[0-9a-f]{64})\n$`).FindStringSubmatch(out)
	if ref == nil {
		t.Fatalf("lithify commit: got %q, want one line DST@DIGEST", out)
	}
	return ref[1]
}

const containerChanges = `
rm /etc/issue
echo more >> /etc/motd
rm -r /usr/share/doc; mkdir /usr/share/doc; echo new > /usr/share/doc/new
mkdir -m 700 -p /new/deep; head -c 2000000 /dev/urandom > /new/deep/big; ln /new/deep/big /new/hard
mv /etc/profile /etc/profile.moved
ln -s ../nowhere /new/dangling; mkfifo /new/pipe
chmod 4711 /bin/cat; chown 1000:1000 /new/hard
rm -r /var/cache; echo file > /var/cache
touch -d @1700000000.987654321 /new/hard
`

// TestCommit commits containers on images of several layers, as containerd unpacks
// them for each snapshotter and as lithify converted them, and runs what comes of it.
func TestCommit(t *testing.T) {
	d := startContainerd(t)
	registry := startRegistry(t)
	for _, c := range []struct {
		name, snapshotter, platform string
		layers                      int
		long                        bool
	}{
		{"overlayfs-1", "overlayfs", "", 1, true},
		{"overlayfs-2", "overlayfs", "", 2, false},
		{"overlayfs-8", "overlayfs", "", 8, true},
		{"erofs-1", "erofs", "", 1, true},
		{"erofs-2", "erofs", "", 2, true},
		{"erofs-8", "erofs", "", 8, true},
		{"native-2", "erofs", "linux(+erofs)/amd64", 2, true},
		{"native-8", "erofs", "linux(+erofs)/amd64", 8, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.long && testing.Short() {
				t.Skip("takes 10 s: long lane")
			}
			d := &daemon{t: t, address: d.address}
			base := registry + "/base:" + c.name
			push(t, debian(t, c.layers), base)
			if c.platform != "" {
				convert(t, base, base+"-erofs")
				base += "-erofs"
			}
			d.pullFor(base, c.snapshotter, c.platform)
			from := d.start(t, "from-"+c.name, base, c.snapshotter, c.platform)
			from.does(t, containerChanges)
			want := from.sees(t)

			made := registry + "/made:" + c.name
			ref := from.mustCommit(t, made, "--message", "changed", "--change", `CMD ["sleep", "1000"]`, "--change", `ENV GREETING="hello world"`)
			if got := from.status(t); got != "RUNNING" {
				t.Errorf("the container is %s after its commit", got)
			}
			index := manifest[ocispec.Index](t, ref)
			if len(index.Manifests) != 2 {
				t.Fatalf("the index has %d manifests, want the image and its variant", len(index.Manifests))
			}
			for i, on := range []struct{ snapshotter, platform string }{{"overlayfs", ""}, {"erofs", "linux(+erofs)/amd64"}} {
				d.pullFor(ref, on.snapshotter, on.platform)
				to := d.start(t, fmt.Sprintf("to%d-%s", i, c.name), ref, on.snapshotter, on.platform)
				erofstest.CheckTrees(t, to.sees(t), want)
				if got := to.does(t, `tr '\0' ' ' < /proc/1/cmdline; echo "$GREETING"`); got != "sleep 1000 hello world\n" {
					t.Errorf("on %s the container runs %q", on.snapshotter, got)
				}
			}
		})
	}
}

// pullFor pulls what runs on a snapshotter.
func (d *daemon) pullFor(ref, snapshotter, platform string) {
	d.t.Helper()
	args := []string{"images", "pull", "--plain-http", "--snapshotter", snapshotter}
	if platform != "" {
		args = append(args, "--platform", platform)
	}
	d.ctr(append(args, ref)...)
}

// TestCommitAgain: with SOURCE_DATE_EPOCH the same container gives the same digest,
// and what the tag named before is kept.
func TestCommitAgain(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	_, registry, c := startOne(t, 1, "overlayfs")
	c.does(t, containerChanges)
	first := c.mustCommit(t, registry+"/made:1")
	if again := c.mustCommit(t, registry+"/made:1"); again != first {
		t.Errorf("committed again it is %s, was %s", again, first)
	}
	zstd := c.mustCommit(t, registry+"/made:zstd", "--compression", "zstd", "--exclude", "new/*")
	m := manifest[ocispec.Index](t, zstd)
	layers := manifest[ocispec.Manifest](t, registry+"/made@"+m.Manifests[0].Digest.String()).Layers
	if got := layers[len(layers)-1].MediaType; got != ocispec.MediaTypeImageLayerZstd {
		t.Errorf("the new layer is %s", got)
	}
	for name := range layerNames(t, registry+"/made@"+layers[len(layers)-1].Digest.String()) {
		if strings.HasPrefix(name, "new/") && name != "new/" {
			t.Errorf("%s was to be left out", name)
		}
		if name == "etc/resolv.conf" || name == "etc/hosts" || name == "etc/hostname" {
			t.Errorf("%s is the runtime's", name)
		}
	}
}

// TestCommitReuses: the base's layers are converted once for all commits on it, and not
// read again.
func TestCommitReuses(t *testing.T) {
	d, registry, c := startOne(t, 2, "overlayfs")
	key := ledgerKey(t)
	layers := manifest[ocispec.Manifest](t, registry+"/base:1").Layers
	for i, phase := range []string{"converted", "reused"} {
		c.does(t, fmt.Sprint("echo > /new", i))
		var said bytes.Buffer
		cmd := command(t, lithify(t), "commit", "--containerd", d.address, "--insecure", "--ledger-repo", "lithify/ledger", "--ledger-key", key, c.id, registry+"/made:"+phase)
		cmd.Stderr = &said
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, said.String())
		}
		for _, l := range layers {
			if !strings.Contains(said.String(), phase+" "+l.Digest.String()) {
				t.Errorf("layer %s is not %s:\n%s", l.Digest, phase, said.String())
			}
		}
	}
}

func layerNames(t testing.TB, ref string) map[string]bool {
	t.Helper()
	blob := output(t, need(t, "crane"), "blob", "--insecure", ref)
	names := map[string]bool{}
	for line := range strings.Lines(outputOf(t, []byte(blob), "tar", "--zstd", "-tf", "-")) {
		names[strings.TrimSpace(line)] = true
	}
	return names
}

func outputOf(t testing.TB, in []byte, name string, args ...string) string {
	t.Helper()
	cmd := command(t, name, args...)
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v", name, args, err)
	}
	return string(out)
}

// TestCommitRefused: wrong words and containers that cannot be committed are told
// apart by the exit code, and nothing is published.
func TestCommitRefused(t *testing.T) {
	d, registry, c := startOne(t, 1, "overlayfs")
	for name, tc := range map[string]struct {
		id, address string
		flags       []string
		code        int
		says        string
	}{
		"no such container": {"nobody", d.address, nil, 4, "nobody"},
		"no containerd":     {c.id, "/nowhere.sock", nil, 5, "/nowhere.sock"},
		"no instruction":    {c.id, d.address, []string{"--change", "RUN true"}, 2, "RUN"},
		"no compression":    {c.id, d.address, []string{"--compression", "xz"}, 2, "xz"},
		"no pattern":        {c.id, d.address, []string{"--exclude", "["}, 2, "["},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"commit", "--containerd", tc.address, "--insecure", tc.id, registry + "/none:1"}, tc.flags...)
			code, said := exit(t, lithify(t), args...)
			if code != tc.code || !strings.Contains(said, tc.says) {
				t.Errorf("exit code %d, %q; want %d and a word about %s", code, said, tc.code, tc.says)
			}
			if got := c.status(t); got != "RUNNING" {
				t.Errorf("the container is %s", got)
			}
		})
	}
	if diff := cmp.Diff("", strings.TrimSpace(tags(t, registry, "none"))); diff != "" {
		t.Errorf("something was published: %s", diff)
	}
}

// exit runs a program that fails.
func exit(t testing.TB, name string, args ...string) (code int, stderr string) {
	t.Helper()
	var b bytes.Buffer
	cmd := command(t, name, args...)
	cmd.Stderr = &b
	cmd.Run()
	return cmd.ProcessState.ExitCode(), b.String()
}

// tags are those of a repository; of one that is not there there are none.
func tags(t testing.TB, registry, repo string) string {
	t.Helper()
	out, err := try(t, need(t, "crane"), "ls", "--insecure", registry+"/"+repo)
	if err != nil {
		return ""
	}
	return out
}

// TestCommitInPool commits a container by the worker of the node that has it.
func TestCommitInPool(t *testing.T) {
	d, registry, c := startOne(t, 1, "overlayfs")
	c.does(t, containerChanges)
	p := startPool(t, 1) // whose worker has no containerd
	p.worker(t, "far", "--containerd", d.address, "--node", "node-7.example")

	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	want := c.mustCommit(t, registry+"/made:here")
	got := p.output(t, "submit", "commit", "--wait", "--node", "node-7.example", "--insecure", c.id, registry+"/made:pool")
	if digestOf(got) != digestOf(want) {
		t.Errorf("the pool made %s, lithify commit %s", got, want)
	}
	id := strings.TrimSpace(p.output(t, "submit", "commit", "--node", "node-8.example", "--insecure", c.id, registry+"/made:none"))
	if why := p.output(t, "jobs", "explain", id); !strings.Contains(why, "no worker") {
		t.Errorf("a job of a node that is not there: %s", why)
	}
	id = strings.TrimSpace(p.output(t, "submit", "commit", "--node", "node-7.example", "--insecure", "nobody", registry+"/made:none"))
	watch := p.command(t, lithify(t), "jobs", "watch", id)
	if watch.Run(); watch.ProcessState.ExitCode() != 4 {
		t.Errorf("exit code %d of a container that is not there, want 4", watch.ProcessState.ExitCode())
	}
	if st := p.job(t, id); st.State != jobs.Failed || st.Attempt != 1 {
		t.Errorf("a container that is not there: %s at attempt %d, want failed at the first", st.State, st.Attempt)
	}
	if got := c.status(t); got != "RUNNING" {
		t.Errorf("the container is %s", got)
	}
}

// blockMode has the erofs snapshotter keep what a container changes in a file system of
// its own.
const blockMode = `
[plugins."io.containerd.snapshotter.v1.erofs"]
  default_size = "256MiB"
`

// TestCommitBlockMode: the upper directory is that of the container's own mount.
func TestCommitBlockMode(t *testing.T) {
	need(t, "mkfs.ext4")
	d, registry, c := startOne(t, 2, "erofs", blockMode)
	c.does(t, containerChanges)
	want := c.sees(t)
	if img, err := filepath.Glob(filepath.Dir(d.address) + "/root/io.containerd.snapshotter.v1.erofs/snapshots/*/rwlayer.img"); len(img) == 0 {
		t.Fatalf("the snapshotter is not in block mode: %v", err)
	}
	ref := c.mustCommit(t, registry+"/made:1")
	d.pullFor(ref, "overlayfs", "")
	erofstest.CheckTrees(t, d.start(t, "unblocked", ref, "overlayfs", "").sees(t), want)

	// What a stopped container has changed lies in a file that nobody has mounted.
	d.ctr("tasks", "delete", "-f", c.id)
	if _, err := c.commit(t, registry+"/made:2"); err == nil || !strings.Contains(err.Error(), "start it") {
		t.Errorf("commit of a stopped container in block mode: %v, want advice to start it", err)
	}
}

// TestUpstreamDiff tells when containerd's own comparison is mended, of which the design
// says that it is not used.
func TestUpstreamDiff(t *testing.T) {
	if testing.Short() {
		t.Skip("shows containerd's faults, not ours: long lane")
	}
	t.Run("two EROFS layers", func(t *testing.T) {
		d, _, c := startOne(t, 2, "erofs")
		c.does(t, containerChanges)
		out, err := try(t, need(t, "ctr"), "--address", d.address, "snapshots", "--snapshotter", "erofs", "diff", c.id)
		if err == nil || !strings.Contains(err.Error(), "no such device") {
			t.Errorf("containerd compares on EROFS now (%d bytes, %v): say so in docs/design.md", len(out), err)
		}
	})
	t.Run("block mode", func(t *testing.T) {
		d, _, c := startOne(t, 1, "erofs", blockMode)
		c.does(t, containerChanges)
		out, err := try(t, need(t, "ctr"), "--address", d.address, "snapshots", "--snapshotter", "erofs", "diff", c.id)
		if err != nil {
			t.Fatalf("containerd's diff in block mode fails now, which is better than an empty layer: say so in docs/design.md: %v", err)
		}
		if names := outputOf(t, []byte(out), "tar", "-tzf", "-"); names != "" {
			t.Errorf("containerd's diff in block mode holds something now: say so in docs/design.md:\n%s", names)
		}
	})
}
