//go:build linux

package e2e_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRestoreMounts: a worker lets containers have what lies in a directory of its machine, and a
// link in there gives nobody anything else.
func TestRestoreMounts(t *testing.T) {
	hold, at, release := holdCRIU(t)
	d, registry := startContainerd(t), startRegistry(t)
	base := registry + "/base:1"
	push(t, debianThat(t, 2, counts), base)
	d.pullFor(base, "overlayfs", "")
	tenants := t.TempDir()
	data, link := filepath.Join(tenants, "web/data"), filepath.Join(tenants, "web/link")
	if err := errors.Join(os.MkdirAll(data, 0o755), os.WriteFile(filepath.Join(data, "whose"), []byte("of the machine it came from"), 0o644)); err != nil {
		t.Fatal(err)
	}
	c := d.start(t, "one", base, "overlayfs", "", "--null-io", "--mount", "type=bind,src="+data+",dst=/data,options=rbind:rw")
	c.goesOn(t, 3)
	ref := strings.TrimSpace(output(t, lithify(t), "checkpoint", "--containerd", d.address, "--insecure", c.id, registry+"/saved:1"))
	other := filepath.Join(tenants, "web/other")
	if err := errors.Join(os.MkdirAll(other, 0o755), os.WriteFile(filepath.Join(other, "whose"), []byte("of this one"), 0o644), os.Symlink(t.TempDir(), link)); err != nil {
		t.Fatal(err)
	}

	p := startPool(t, 1)
	w, _ := p.worker(t, "node-1", "--containerd", d.address, "--node", "node-1", "--restore-from", "*", "--restore-mounts", tenants, "--restore-root", d.restoreRoot())
	submit := func(name, source string) []string {
		return []string{"submit", "restore", "--wait", "--insecure", "--node", "node-1", "--name", name, "--mount", source + ":/data", ref}
	}
	two := d.restored(t, "two")
	p.output(t, submit(two.id, other)...)
	two.goesOn(t, two.count(t))
	if got := two.does(t, "cat /data/whose; echo written > /data/new"); got != "of this one" {
		t.Errorf("in the restored container: %q", got)
	}
	if got, err := os.ReadFile(filepath.Join(other, "new")); err != nil || string(got) != "written\n" {
		t.Errorf("on the machine: %q, %v", got, err)
	}
	if got := d.ctr("containers", "info", two.id); !strings.Contains(got, `"source": "`+other+`"`) {
		t.Errorf("the spec does not name %s: %s", other, got)
	}

	// What CRIU mounts is what was there before somebody put a link in its place.
	three := d.restored(t, "three")
	hold()
	submitted := start(t, p.command(t, lithify(t), submit(three.id, other)...))
	at()
	moved := other + "-moved"
	if err := errors.Join(os.Rename(other, moved), os.Symlink("/etc", other)); err != nil {
		t.Fatal(err)
	}
	release()
	if <-submitted.ended; submitted.err != nil {
		t.Fatal(submitted.err)
	}
	if got := three.does(t, "cat /data/whose"); got != "of this one" {
		t.Errorf("in the container that was restored meanwhile: %q", got)
	}
	if err := errors.Join(os.Remove(other), os.Rename(moved, other)); err != nil {
		t.Fatal(err)
	}

	out, err := p.command(t, lithify(t), submit("four", link)...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "a link leads out of "+tenants) {
		t.Errorf("a link: %v, %s, want it refused", err, out)
	}
	if got := d.ctr("containers", "ls", "-q"); strings.Contains(got, "four") {
		t.Errorf("containers: %q", got)
	}
	binds := func() int {
		t.Helper()
		all, err := filepath.Glob(filepath.Join("/run/lithify/mounts", d.restoreRoot(), "containers/*/*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	if n := binds(); n > 0 {
		t.Errorf("left are mounts of %d restores", n)
	}

	// What a worker leaves that dies over it, the next one who has the name takes away.
	four := d.restored(t, "four")
	hold()
	start(t, p.command(t, lithify(t), submit(four.id, other)...))
	at()
	if err := w.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-w.ended
	if n := binds(); n != 1 {
		t.Errorf("mounts of %d restores, want those of the one that died", n)
	}
	release()
	output(t, lithify(t), d.restoreArgs(ref, four.id, "--mount", other+":/data")...)
	if got := four.does(t, "cat /data/whose"); got != "of this one" || binds() > 0 {
		t.Errorf("after a worker's death: %q, mounts of %d restores", got, binds())
	}
}
