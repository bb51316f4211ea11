//go:build linux

package e2e_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/lithify/lithify/convert/provenance"
	regsource "github.com/lithify/lithify/convert/registry"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
)

// counts counts, in memory and in a file, and says so where the two differ: memory and
// files that are not of one instant are found by the process itself.
const counts = `
rm /etc/issue
trap 'touch /heard' HUP
i=0; echo 0 > /count
while :; do
	[ "$(cat /count)" = $i ] || echo "$i in memory, $(cat /count) in the file" > /wrong
	i=$((i+1)); echo $i > /count; echo $i
	sleep 0.05
done`

// startCounting starts a container that counts, on an image of n layers.
func startCounting(t testing.TB, n int, snapshotter string) (d *daemon, registry string, c *container) {
	t.Helper()
	return startThat(t, n, snapshotter, counts)
}

func startThat(t testing.TB, n int, snapshotter, script string) (d *daemon, registry string, c *container) {
	t.Helper()
	need(t, "criu")
	d, registry = startContainerd(t), startRegistry(t)
	base := registry + "/base:1"
	push(t, debianThat(t, n, script), base)
	d.pullFor(base, snapshotter, "")
	c = d.start(t, "one", base, snapshotter, "", "--null-io")
	return d, registry, c
}

// restored is the container that lithify restore made. It is removed with the test.
func (d *daemon) restored(t testing.TB, name string) *container {
	t.Helper()
	t.Cleanup(func() {
		exec.Command(need(t, "runc"), "--root", "/run/containerd/runc/default", "delete", "--force", name).Run()
	})
	return &container{d, name, ""}
}

func (c *container) count(t testing.TB) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(c.does(t, "cat /count || true")))
	if err != nil {
		return -1 // it is being written
	}
	return n
}

// goesOn waits until the container has counted on from n.
func (c *container) goesOn(t testing.TB, n int) {
	t.Helper()
	await(t, c.id+" to count on", func(context.Context) error {
		if now := c.count(t); now <= n {
			return fmt.Errorf("it is at %d, and was at %d", now, n)
		}
		return nil
	})
}

// saved starts a container that counts and makes a checkpoint of it.
func saved(t testing.TB, n int, snapshotter string) (d *daemon, registry string, c *container, ref string) {
	t.Helper()
	d, registry, c = startCounting(t, n, snapshotter)
	c.goesOn(t, 3)
	out := output(t, lithify(t), "checkpoint", "--containerd", d.address, "--insecure", c.id, registry+"/saved:1")
	return d, registry, c, strings.TrimSpace(out)
}

// restoreArgs are those of a restore of ref as name, in a directory of the daemon's own.
func (d *daemon) restoreArgs(ref, name string, flags ...string) []string {
	args := []string{"restore", "--containerd", d.address, "--restore-root", d.restoreRoot(), "--insecure", "--name", name}
	return append(append(args, flags...), ref)
}

func (d *daemon) restoreRoot() string { return filepath.Join(filepath.Dir(d.address), "restore") }

// TestCheckpointRestore restores what it has made a checkpoint of, beside the container
// that goes on. The container itself says if memory and files are of two instants.
func TestCheckpointRestore(t *testing.T) {
	for _, snapshotter := range []string{"overlayfs", "erofs"} {
		for _, layers := range []int{1, 2, 8} {
			t.Run(fmt.Sprint(snapshotter, layers), func(t *testing.T) {
				if layers != 2 && testing.Short() {
					t.Skip("on an image of one layer, and of eight: long lane")
				}
				d, _, c, ref := saved(t, layers, snapshotter)
				at := c.count(t)
				two := d.restored(t, "two")
				env, token := filepath.Join(t.TempDir(), "env"), filepath.Join(t.TempDir(), "token")
				if err := errors.Join(os.WriteFile(env, []byte("# of a clone\n\n  COLOUR=dark = blue\r\n"), 0o600), os.WriteFile(token, []byte("hunter2"), 0o600)); err != nil {
					t.Fatal(err)
				}
				got := output(t, lithify(t), d.restoreArgs(ref, two.id, "--snapshotter", snapshotter, "--hostname", "clone", "--check-exec", "test -s /who", "--healthy-for", "1s", "--env-file", env, "--secret", "id=token,src="+token,
					"--refresh", "echo $LITHIFY_NAME > /who; grep -c LITHIFY_CHECKPOINT=sha256: /run/lithify/clone >> /who; echo $COLOUR >> /who; cat /run/lithify/env >> /who", "--signal", "HUP")...)
				if got != "two\n" {
					t.Errorf("lithify restore: got %q, want the container's name", got)
				}
				two.goesOn(t, at)
				c.goesOn(t, at)
				if got := two.does(t, "hostname; cat /who; ls /etc/issue /wrong 2>/dev/null || true"); got != "clone\ntwo\n1\ndark = blue\nCOLOUR=dark = blue\n" {
					t.Errorf("in the restored container: %q, want its hostname, name and variables, and no file that was removed or should not be", got)
				}
				if got := two.does(t, "cd /run/lithify/secrets; cat *; stat -c ' %n %a %u' *"); got != "hunter2 token 400 0\n" {
					t.Errorf("secrets in the restored container: %q", got)
				}
				await(t, "a signal", func(context.Context) error {
					if got := two.does(t, "ls /heard || true"); got != "/heard\n" {
						return errors.New("not heard")
					}
					return nil
				})
				if got := c.does(t, "hostname"); strings.Contains(got, "clone") {
					t.Errorf("the hostname of the first container is %s", got)
				}
			})
		}
	}
}

// TestCheckpointStop ends the container once its checkpoint is published, and goes on
// with it where nothing of it was: in another containerd that has to pull the base image.
func TestCheckpointStop(t *testing.T) {
	_, registry, c := startCounting(t, 2, "overlayfs")
	c.goesOn(t, 3)
	if _, err := try(t, lithify(t), "checkpoint", "--stop", "--containerd", c.address, "--insecure", c.id, "127.0.0.1:1/nowhere:1"); err == nil {
		t.Fatal("a checkpoint was pushed to no registry")
	}
	c.goesOn(t, c.count(t)) // what could not be pushed is not stopped
	out := output(t, lithify(t), "checkpoint", "--stop", "--containerd", c.address, "--insecure", c.id, registry+"/saved:1")
	c.awaits(t, "STOPPED")

	there := startContainerd(t)
	two := there.restored(t, "two")
	output(t, lithify(t), there.restoreArgs(strings.TrimSpace(out), two.id)...)
	two.goesOn(t, two.count(t))
	if names := there.ctr("images", "ls", "-q"); !strings.HasPrefix(names, registry+"/base@sha256:") || strings.Count(names, "\n") != 1 {
		t.Errorf("images of the second containerd: %q, want the base by its digest and no tag", names)
	}
}

// TestCheckpointSplit makes two checkpoints of a process that holds 20 MB it does not change:
// the second moves nearly nothing, to the registry and to a machine that has the first.
func TestCheckpointSplit(t *testing.T) {
	d, registry, c := startThat(t, 2, "overlayfs", "m=$(head -c 15000000 /dev/urandom | base64 -w0)\n"+counts)
	var moved []int64
	for i, name := range []string{"first", "second"} {
		c.goesOn(t, 3+i)
		out := output(t, lithify(t), "checkpoint", "-o", "json", "--split", "--containerd", d.address, "--insecure", c.id, registry+"/saved:1")
		var r struct{ New, Memory int64 }
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes moved of %d", name, r.New, r.Memory)
		moved = append(moved, r.New)
		at := c.count(t)
		clone := d.restored(t, name)
		output(t, lithify(t), d.restoreArgs(registry+"/saved:1", clone.id)...)
		clone.goesOn(t, at)
		if got := clone.does(t, "ls /wrong 2>/dev/null || true"); got != "" {
			t.Errorf("the %s counts wrong", name)
		}
	}
	if moved[0] < 15e6 || moved[1] > moved[0]/20 {
		t.Errorf("%d bytes moved, and then %d: want 15 MB and then less than a twentieth", moved[0], moved[1])
	}
}

// trace traces a process until end.
func trace(pid int, traced chan<- error, end <-chan struct{}) {
	runtime.LockOSThread() // the thread ends with this function, and what it traces is free
	if unix.Gettid() == os.Getpid() {
		go trace(pid, traced, end) // the first thread of a program does not end: this holds it
	} else {
		traced <- unix.PtraceSeize(pid)
	}
	<-end
}

// TestCheckpointTraced makes a checkpoint of a container whose process something else traces,
// until CRIU has given up for the first time.
func TestCheckpointTraced(t *testing.T) {
	if testing.Short() {
		t.Skip("CRIU tries for ten seconds: long lane")
	}
	d, registry, c := startCounting(t, 2, "overlayfs")
	pid, err := strconv.Atoi(strings.Fields(d.ctr("tasks", "ls"))[4])
	if err != nil {
		t.Fatal(err)
	}
	traced, end := make(chan error), make(chan struct{})
	var once sync.Once
	release := func() { once.Do(func() { close(end) }) }
	defer release()
	go trace(pid, traced, end)
	if err := <-traced; err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	p := start(t, command(t, lithify(t), "checkpoint", "--containerd", d.address, "--insecure", "--temp-dir", temp, c.id, registry+"/saved:1"))
	await(t, "CRIU's end", func(context.Context) error {
		logs, err := filepath.Glob(filepath.Join(temp, "*", "dump.log"))
		if err != nil || len(logs) == 0 {
			return fmt.Errorf("no log in %s: %w", temp, err)
		}
		raw, err := os.ReadFile(logs[0])
		if err == nil && !bytes.Contains(raw, []byte("Dumping FAILED")) {
			err = errors.New("CRIU is at it")
		}
		return err
	})
	release()
	happens(t, "the checkpoint", p.ended)
	if p.err != nil {
		t.Fatalf("lithify checkpoint: %v; want another dump, once nobody traces the process", p.err)
	}
	two := d.restored(t, "two")
	output(t, lithify(t), d.restoreArgs(registry+"/saved:1", two.id)...)
	two.goesOn(t, 3)
	c.goesOn(t, two.count(t))
}

// publicOf writes the public key of one, as openssl pkey -pubout does.
func publicOf(t testing.TB, file string) string {
	t.Helper()
	key, err := convertrun.LoadKey(file)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := filepath.Join(t.TempDir(), "public.pem")
	if err := os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return public
}

// TestCheckpointSigned restores only what the key has signed that is asked for, and signed
// as a checkpoint.
func TestCheckpointSigned(t *testing.T) {
	d, registry, c, unsigned := saved(t, 2, "overlayfs")
	mine, other := ledgerKey(t), ledgerKey(t)
	signed := strings.TrimSpace(output(t, lithify(t), "checkpoint", "--sign-key", mine, "--containerd", d.address, "--insecure", c.id, registry+"/signed:1"))
	for name, args := range map[string][]string{
		"not signed": d.restoreArgs(unsigned, "two", "--key", publicOf(t, mine)),
		"by another": d.restoreArgs(signed, "two", "--key", publicOf(t, other)),
	} {
		if code, said := exit(t, lithify(t), args...); code != 3 || !strings.Contains(said, "sign") {
			t.Errorf("%s: exit code %d, %q; want 3", name, code, said)
		}
	}
	two := d.restored(t, "two")
	output(t, lithify(t), d.restoreArgs(signed, two.id, "--key", publicOf(t, other), "--key", publicOf(t, mine))...)
	two.goesOn(t, two.count(t))

	// The pool's key signs builds, too, whatever they are of.
	src, err := regsource.Open(unsigned, regsource.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dst, err := regsource.Create(registry+"/saved:1", regsource.Options{})
	if err != nil {
		t.Fatal(err)
	}
	root, err := src.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key, err := convertrun.LoadKey(mine)
	if err != nil {
		t.Fatal(err)
	}
	if err := provenance.Attest(t.Context(), dst, root, provenance.Made{Type: "https://example.com/build", Name: "x"}, key); err != nil {
		t.Fatal(err)
	}
	if code, said := exit(t, lithify(t), d.restoreArgs(unsigned, "three", "--key", publicOf(t, mine))...); code != 3 || !strings.Contains(said, "not as a checkpoint") {
		t.Errorf("signed as a build: exit code %d, %q; want 3", code, said)
	}
}

// TestRestoreRefused: each with its exit code and a word about what to do, and nothing is
// left of it.
func TestRestoreRefused(t *testing.T) {
	d, registry, c, ref := saved(t, 2, "overlayfs")
	left := func() string {
		// Snapshots that nothing refers to go with containerd's next garbage collection.
		return d.ctr("containers", "ls", "-q") + d.ctr("tasks", "ls", "-q") + d.ctr("leases", "ls", "-q") + d.ctr("images", "ls", "-q")
	}
	before := left()
	for name, tc := range map[string]struct {
		ref   string
		flags []string
		code  int
		says  string
	}{
		"no checkpoint":     {registry + "/base:1", nil, 3, "is no checkpoint image"},
		"no image":          {registry + "/none:1", nil, 4, "none"},
		"taken":             {ref, []string{"--name", c.id}, 1, "give another name"},
		"network":           {ref, []string{"--network", "host"}, 1, "--network none"},
		"base":              {ref, []string{"--base", registry + "/base@sha256:" + strings.Repeat("0", 64)}, 4, "base image"},
		"mount":             {ref, []string{"--mount", "/srv"}, 2, "SOURCE:TARGET"},
		"no snapshotter":    {ref, []string{"--snapshotter", "none"}, 3, "none"},
		"no time":           {ref, []string{"--limit", "1ns"}, 5, "longer than allowed"},
		"refresh":           {ref, []string{"--refresh", "echo no good >&2; exit 3"}, 1, "no good"},
		"ill":               {ref, []string{"--check-exec", "echo not well >&2; exit 7", "--check-within", "1s"}, 1, "not well"},
		"another's network": {ref, []string{"--check-tcp", registry[strings.LastIndex(registry, ":")+1:], "--check-within", "1s"}, 1, "refused"},
		"no check":          {ref, []string{"--check-tcp", "web:80"}, 2, "IP:PORT"},
		"no signal":         {ref, []string{"--signal", "SIGNOT"}, 2, "SIGNOT"},
		"a name of no kind": {ref, []string{"--name", "../x"}, 2, "../x"},
	} {
		t.Run(name, func(t *testing.T) {
			code, said := exit(t, lithify(t), d.restoreArgs(tc.ref, "two", tc.flags...)...)
			if code != tc.code || !strings.Contains(said, tc.says) {
				t.Errorf("exit code %d, %q; want %d and a word about %s", code, said, tc.code, tc.says)
			}
		})
	}
	if diff := cmp.Diff(before, left()); diff != "" {
		t.Errorf("left in containerd (-before +after):\n%s", diff)
	}
	if dirs, err := filepath.Glob(filepath.Join(d.restoreRoot(), "containers/*/two")); err != nil || len(dirs) > 0 {
		t.Errorf("left of our own: %v, %v", dirs, err)
	}
	c.goesOn(t, c.count(t))
}

// TestRollout restores a checkpoint on two nodes in waves, and takes a rollout back in
// which a container cannot be restored.
func TestRollout(t *testing.T) {
	d, _, c, ref := saved(t, 2, "overlayfs")
	other := startContainerd(t)
	p := startPool(t, 1)
	nodes := map[string]*daemon{"node-1": d, "node-2": other}
	for name, d := range nodes {
		p.worker(t, name, "--containerd", d.address, "--node", name, "--label", "zone=a", "--restore-from", "*", "--restore-root", d.restoreRoot())
		p.lists(t, name)
	}
	rollout := func(name string, flags ...string) (string, error) {
		var made []*container
		for i := range 4 {
			d := nodes[fmt.Sprintf("node-%d", i%2+1)]
			made = append(made, d.restored(t, fmt.Sprintf("%s-%d", name, i+1)))
		}
		cmd := p.command(t, lithify(t), append([]string{"submit", "rollout", "--wait", "--insecure", "--selector", "zone=a,os=linux", "--replicas", "4", "--canary", "1", "--wave", "2", "--name", name, ref}, flags...)...)
		out, err := cmd.CombinedOutput()
		if err == nil {
			for _, c := range made {
				c.goesOn(t, c.count(t))
			}
		}
		return string(out), err
	}
	out, err := rollout("web", "--hostname", "web")
	if err != nil || !strings.HasSuffix(out, "node-1 web-1\nnode-2 web-2\nnode-1 web-3\nnode-2 web-4\n") {
		t.Fatalf("%v, %s: want four containers on two nodes", err, out)
	}
	if got := (&container{other, "web-4", ""}).does(t, "hostname; grep CLONE /run/lithify/clone"); got != "web-4\nLITHIFY_CLONE=4/4\n" {
		t.Errorf("the fourth is %q", got)
	}

	// The third of the next one finds its name taken.
	d.restored(t, "job-3")
	output(t, lithify(t), d.restoreArgs(ref, "job-3")...)
	out, err = rollout("job")
	if err == nil || !strings.Contains(out, "job-3 on node-1") || !strings.Contains(out, "containers removed again: 2") {
		t.Errorf("%v, %s: want it given up", err, out)
	}
	if got := d.ctr("containers", "ls", "-q") + other.ctr("containers", "ls", "-q"); strings.Contains(got, "job-1") || strings.Contains(got, "job-2") || strings.Contains(got, "job-4") || !strings.Contains(got, "job-3") {
		t.Errorf("containers: %q, want none of the rollout's", got)
	}

	// A node that is gone is waited for no longer than a container may take.
	d.restored(t, "half-1")
	out = p.output(t, "submit", "rollout", "--wait", "--insecure", "--node", "node-1,node-9", "--max-failed", "1", "--container-timeout", "5s", "--name", "half", ref)
	if out != "node-1 half-1\n" {
		t.Errorf("a rollout with a node that is gone: %q, want the container of the other", out)
	}
	c.goesOn(t, c.count(t))
}

// holdCRIU puts a criu in front of the machine's that waits, where runc starts it and once
// hold is called, until release is; at waits for one that waits.
func holdCRIU(t *testing.T) (hold, at, release func()) {
	t.Helper()
	dir := t.TempDir()
	held, here := filepath.Join(dir, "held"), filepath.Join(dir, "here")
	script := fmt.Sprintf("#!/bin/sh\nif [ $1 = swrk ] && [ -e %[1]s ]; then touch %[2]s; while [ -e %[1]s ]; do sleep 0.02; done; fi\nexec %[3]s \"$@\"\n", held, here, need(t, "criu"))
	if err := os.WriteFile(filepath.Join(dir, "criu"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv(before, dir)
	release = func() { os.Remove(held) }
	t.Cleanup(release)
	return func() {
			os.Remove(here) // of the last time
			if err := os.WriteFile(held, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, func() {
			await(t, "CRIU", func(context.Context) error { _, err := os.Stat(here); return err })
		}, release
}

// TestRestoreKilled kills a restore in the middle of CRIU's work: the next one of the same
// name clears away what is left and has its way. So does one that ran out of time.
func TestRestoreKilled(t *testing.T) {
	hold, at, release := holdCRIU(t)
	d, _, _, ref := saved(t, 2, "overlayfs")
	two := d.restored(t, "two")
	hold()
	p := start(t, command(t, lithify(t), d.restoreArgs(ref, two.id)...))
	at()
	if code, said := exit(t, lithify(t), d.restoreArgs(ref, two.id)...); code != 5 || !strings.Contains(said, "another process is at it") {
		t.Errorf("a second restore beside it: exit code %d, %q; want 5", code, said)
	}
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.ended
	code, said := exit(t, lithify(t), d.restoreArgs(ref, two.id, "--limit", "1s")...)
	if code != 5 || !strings.Contains(said, "longer than allowed") {
		t.Errorf("CRIU that does not come to an end: exit code %d, %q; want 5", code, said)
	}
	if got := d.ctr("containers", "ls", "-q"); strings.Contains(got, two.id) {
		t.Errorf("containers: %q, want no half one", got)
	}
	release()
	output(t, lithify(t), d.restoreArgs(ref, two.id)...)
	two.goesOn(t, two.count(t))
}
