//go:build linux

package e2e_test

import (
	"archive/tar"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/lithify/lithify/test/corpus"
)

// python counts in memory, in an open file and in a deleted one, beside a thread.
const python = `
import os, threading, time
os.remove("/etc/issue")
gone = open("/tmp/gone", "w+"); os.remove("/tmp/gone")
kept = open("/kept", "w+")
beside = [0]
def count():
    while True:
        beside[0] += 1
        time.sleep(0.02)
threading.Thread(target=count, daemon=True).start()
memory = {str(i): i * i for i in range(100000)}
n = 0
while True:
    for f in (gone, kept):
        f.seek(0)
        if n and int(f.read()) != n - 1:
            open("/wrong", "w").write("a file is not at %d" % (n - 1))
        f.seek(0); f.write("%08d" % n); f.flush()
    if memory[str(n % 100000)] != (n % 100000) ** 2:
        open("/wrong", "w").write("memory")
    open("/count.new", "w").write(str(n)); os.rename("/count.new", "/count")
    was = beside[0]
    time.sleep(0.05)
    if n % 20 == 19:
        time.sleep(0.2)
        if beside[0] == was:
            open("/wrong", "w").write("the thread stands still")
    n += 1
`

// processes are a tree: a writer and a reader at the ends of a pipe, a background job that
// both must outlive, and a fifo between two of them.
const processes = `
rm /etc/issue; mkfifo /fifo
(while :; do sleep 0.1; done) &
i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done | (
	exec 3<>/fifo; want=0
	while read n; do
		[ $n = $want ] || echo "$n came, and $want was next" > /wrong
		want=$((want+1))
		echo $n >&3; read back <&3
		[ $back = $n ] || echo "$back came back of $n" > /wrong
		echo $n > /count.new; mv /count.new /count
	done)`

// TestCheckpointWorkloads has other programs than a shell's loop go on: each looks itself
// whether its memory, its files and its threads are of one instant.
func TestCheckpointWorkloads(t *testing.T) {
	need(t, "criu")
	if testing.Short() {
		t.Skip("other programs than the shell's counter: long lane")
	}
	of, registry := startContainerd(t), startRegistry(t)
	for _, w := range []struct {
		name string
		base v1.Layer
		args []string
	}{
		{"go", workload(t), []string{"/workload"}},
		{"processes", corpusLayer(t, "debian"), []string{"/bin/sh", "-c", processes}},
		{"python", corpusLayer(t, "devel"), []string{"/usr/bin/python3", "-c", python}},
	} {
		for _, layers := range []int{1, 2, 8} {
			image := layered(t, w.base, layers, w.args...)
			for _, snapshotter := range []string{"overlayfs", "erofs"} {
				name := fmt.Sprint(w.name, "-", snapshotter, "-", layers)
				t.Run(name, func(t *testing.T) {
					d := &daemon{t: t, address: of.address}
					base := registry + "/base:" + name
					push(t, image, base)
					d.pullFor(base, snapshotter, "")
					c := d.start(t, name, base, snapshotter, "", "--null-io")
					c.goesOn(t, 12)
					ref := strings.TrimSpace(output(t, lithify(t), "checkpoint", "--containerd", d.address, "--insecure", c.id, registry+"/saved:"+name))
					at := c.count(t)
					two := d.restored(t, name+"-two")
					output(t, lithify(t), d.restoreArgs(ref, two.id, "--snapshotter", snapshotter)...)
					for _, c := range []*container{two, c} {
						c.goesOn(t, at+12) // its checks included
						if got := c.does(t, "cat /wrong /etc/issue 2>/dev/null || true"); got != "" {
							t.Errorf("%s: %s", c.id, got)
						}
					}
				})
			}
		}
	}
}

// workload is a layer of the test's program, and of a shell to look into its container.
func workload(t *testing.T) v1.Layer {
	t.Helper()
	files := map[string]string{"workload": program(t, "workload", "./workload"), "bin/busybox": need(t, "busybox")}
	l, err := corpus.Built(types.OCILayer, func(w *tar.Writer) error {
		for _, dir := range []string{"bin", "etc", "tmp"} {
			if err := w.WriteHeader(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
				return err
			}
		}
		for _, name := range slices.Sorted(maps.Keys(files)) {
			raw, err := os.ReadFile(files[name])
			if err != nil {
				return err
			}
			if err := corpus.File(w, tar.Header{Name: name, Mode: 0o755}, string(raw)); err != nil {
				return err
			}
		}
		for _, name := range []string{"sh", "cat", "true"} {
			if err := w.WriteHeader(&tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}); err != nil {
				return err
			}
		}
		return corpus.File(w, tar.Header{Name: "etc/issue", Mode: 0o644}, "issue\n")
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestClones restores one checkpoint many times on one machine, from one directory. Each
// knows who it is, all go on, and all are removed again.
func TestClones(t *testing.T) {
	if testing.Short() {
		t.Skip("restores 32 containers: long lane")
	}
	const n = 32
	d, registry, c, ref := saved(t, 2, "overlayfs")
	p := startPool(t, 1)
	p.worker(t, "node-1", "--containerd", d.address, "--node", "node-1", "--restore-from", registry+"/", "--restore-root", d.restoreRoot())
	p.lists(t, "node-1")
	var clones []*container
	for i := range n {
		clones = append(clones, d.restored(t, fmt.Sprintf("web-%d", i+1)))
	}
	begun := time.Now()
	rollout := start(t, p.command(t, lithify(t), "submit", "rollout", "--wait", "--insecure", "--node", "node-1", "--replicas", fmt.Sprint(n), "--wave", "8", "--name", "web", "--hostname", "web", ref))
	id := rollout.says(t, "job", func(line string) (string, bool) { return strings.CutPrefix(line, "job ") })
	if out, err := rollout.rolledOut(); err != nil {
		t.Fatalf("%v, %s", err, out)
	}
	t.Logf("%d clones run after %s, and their first processes hold %d KiB", n, time.Since(begun).Round(time.Millisecond), d.memory(t, "web-"))
	for i, c := range clones {
		c.goesOn(t, c.count(t))
		if got, want := c.does(t, "hostname; grep CLONE /run/lithify/clone"), fmt.Sprintf("%s\nLITHIFY_CLONE=%d/%d\n", c.id, i+1, n); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := c.does(t, "cat /wrong 2>/dev/null || true"); got != "" {
			t.Errorf("%s: %s", c.id, got)
		}
	}
	dirs, err := os.ReadDir(d.restoreRoot() + "/checkpoints")
	if err != nil {
		t.Fatal(err)
	}
	whole := 0
	for _, e := range dirs {
		if e.IsDir() {
			whole++
		}
	}
	if whole != 1 {
		t.Errorf("%d checkpoints are unpacked for %d clones, want 1", whole, n)
	}

	var want strings.Builder
	for _, c := range clones {
		fmt.Fprintln(&want, "node-1", c.id)
	}
	begun = time.Now()
	if got := p.output(t, "rollout", "abort", id); got != want.String() {
		t.Errorf("removed: %q, want each of the %d clones", got, n)
	}
	t.Logf("%d clones are gone after %s", n, time.Since(begun).Round(time.Millisecond))
	if got := d.ctr("containers", "ls", "-q"); got != c.id+"\n" {
		t.Errorf("containers: %q, want only the one that the clones are of", got)
	}
	left, err := filepath.Glob(filepath.Join(d.restoreRoot(), "containers/*/web-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left of the clones: %v, %v", left, err)
	}
	c.goesOn(t, c.count(t))
}

// memory is how many KiB the first processes of containers hold, each page that some of
// them share divided by how many they are.
func (d *daemon) memory(t *testing.T, prefix string) (kib int) {
	t.Helper()
	for line := range strings.Lines(d.ctr("tasks", "ls")) {
		f := strings.Fields(line)
		if len(f) != 3 || !strings.HasPrefix(f[0], prefix) {
			continue
		}
		held, err := os.ReadFile(filepath.Join("/proc", f[1], "smaps_rollup"))
		if err != nil {
			t.Fatal(err)
		}
		_, pss, _ := strings.Cut(string(held), "\nPss:")
		n, err := strconv.Atoi(strings.Fields(pss + " -")[0])
		if err != nil {
			t.Fatalf("%s: no Pss in %q", f[0], held)
		}
		kib += n
	}
	return kib
}
