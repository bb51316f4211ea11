//go:build linux

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestRestoreLocalCopy kills the registry between two restores on a node: who may have the node's
// copy goes on without it, if that is what it was, and nobody else.
func TestRestoreLocalCopy(t *testing.T) {
	need(t, "criu")
	d := startContainerd(t)
	registry, serving := runRegistry(t, t.TempDir(), "")
	base := registry + "/base:1"
	push(t, debianThat(t, 2, counts), base)
	d.pullFor(base, "overlayfs", "")
	c := d.start(t, "one", base, "overlayfs", "", "--null-io")
	c.goesOn(t, 3)
	key := ledgerKey(t)
	ref := strings.TrimSpace(output(t, lithify(t), "checkpoint", "--sign-key", key, "--containerd", d.address, "--insecure", c.id, registry+"/saved:1"))
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	text := fmt.Sprintf(`version: 1
rules:
- {name: kept, tenants: [shop], from: ["%[1]s/"], keys: [%[2]s], local_copy: true}
- {name: asked, tenants: [web], from: ["%[1]s/"]}
`, registry, publicOf(t, key))
	if err := os.WriteFile(policy, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startPool(t, 0)
	p.worker(t, "node-1", "--containerd", d.address, "--node", "node-1", "--restore-root", d.restoreRoot(), "--restore-policy", policy)
	p.lists(t, "node-1")
	submit := func(tenant, name string) string {
		return strings.TrimSpace(p.output(t, "submit", "restore", "--insecure", "--node", "node-1", "--tenant", tenant, "--name", d.restored(t, name).id, ref))
	}
	runs := func(name, id string) (local string) {
		t.Helper()
		p.output(t, "jobs", "watch", id)
		var made struct{ Local string }
		if st := p.job(t, id); json.Unmarshal(st.Result, &made) != nil {
			t.Fatalf("job %s is %s, %+v", id, st.State, st.Failure)
		}
		two := &container{d, name, ""}
		two.goesOn(t, two.count(t))
		return made.Local
	}
	fails := func(id, why string) {
		t.Helper()
		await(t, "the job to fail", func(context.Context) error {
			if st := p.job(t, id); st.Failure == nil || !strings.Contains(st.Failure.Message, why) {
				return fmt.Errorf("it is %s, %+v, and not for %q", st.State, st.Failure, why)
			}
			return nil
		})
		p.output(t, "jobs", "cancel", id) // or it is tried again
	}
	for name, tenant := range map[string]string{"two": "shop", "three": "web"} {
		if local := runs(name, submit(tenant, name)); local != "" {
			t.Errorf("%s: a local copy was restored though there is a registry: %s", name, local)
		}
	}
	if err := serving.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-serving.ended

	if local := runs("four", submit("shop", "four")); !strings.Contains(local, "refused") {
		t.Errorf("the result says %q of the registry, want that it refused the connection", local)
	}
	fails(submit("web", "five"), "connection refused")
	if code, said := exit(t, lithify(t), d.restoreArgs(ref, "five", "--local-copy")...); code != 5 || !strings.Contains(said, "no job of tenant default") {
		t.Errorf("of who had not restored it: exit code %d, %q; want 5", code, said)
	}
	if code, said := exit(t, lithify(t), d.restoreArgs(ref, "five")...); code != 5 || !strings.Contains(said, "connection refused") || strings.Contains(said, "local copy") {
		t.Errorf("without --local-copy: exit code %d, %q; want 5", code, said)
	}

	pages, err := filepath.Glob(filepath.Join(d.restoreRoot(), "checkpoints/*/checkpoint/pages-1.img"))
	if err != nil || len(pages) != 1 {
		t.Fatalf("pages: %v, %v, want one file", pages, err)
	}
	f, err := os.OpenFile(pages[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, 4096); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, 4096); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	fails(submit("shop", "five"), "were changed")
	if got := d.ctr("containers", "ls", "-q"); strings.Contains(got, "five") {
		t.Errorf("containers: %q, want none of a copy that was changed", got)
	}
}

// TestRestoreLocalCopyStalled has a registry take requests and say nothing: that is given up where
// the node has a copy, long before an answer would be, and the copy of what is encrypted is for who
// has the key.
func TestRestoreLocalCopyStalled(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a registry that is silent, again and again: long lane")
	}
	need(t, "criu")
	d, direct := startContainerd(t), startRegistry(t)
	var silent atomic.Bool
	stalls := startStop(t, direct, false, func(*http.Request) bool { return silent.Load() })
	t.Cleanup(func() { close(stalls.gone) })
	base := direct + "/base:1"
	push(t, debianThat(t, 2, counts), base)
	d.pullFor(base, "overlayfs", "")
	c := d.start(t, "one", base, "overlayfs", "", "--null-io")
	c.goesOn(t, 3)
	public, private := pemPair(t)
	ref := strings.TrimSpace(output(t, lithify(t), "checkpoint", "--encrypt-to", public, "--containerd", d.address, "--insecure", c.id, stalls.host+"/saved:1"))
	p := startPool(t, 0)
	p.worker(t, "node-1", "--containerd", d.address, "--node", "node-1", "--restore-root", d.restoreRoot(), "--restore-from", stalls.host+"/", "--restore-local-copy", "--restore-decrypt-with", private)
	p.lists(t, "node-1")
	for _, name := range []string{"asked", "stalled"} {
		two := d.restored(t, name)
		id := strings.TrimSpace(p.output(t, "submit", "restore", "--insecure", "--node", "node-1", "--name", two.id, ref))
		p.output(t, "jobs", "watch", id)
		var made struct{ Local string }
		if st := p.job(t, id); json.Unmarshal(st.Result, &made) != nil || strings.Contains(made.Local, "does not answer") != silent.Load() {
			t.Fatalf("job %s is %s, %+v, local %q", id, st.State, st.Failure, made.Local)
		}
		two.goesOn(t, two.count(t))
		silent.Store(true)
	}
	_, nobodys := pemPair(t)
	if code, said := exit(t, lithify(t), d.restoreArgs(ref, "three", "--local-copy", "--decrypt-with", nobodys)...); code == 0 || !strings.Contains(said, "does not answer") || !strings.Contains(said, "key") {
		t.Errorf("by another's key: exit code %d, %q", code, said)
	}
	if got := d.ctr("containers", "ls", "-q"); strings.Contains(got, "three") {
		t.Errorf("containers: %q, want none of who has no key", got)
	}
}
