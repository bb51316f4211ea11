//go:build linux

package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/queue"
)

// TestRestorePolicy has a worker look at whose job it is, and at the image before it reads
// what is in it.
func TestRestorePolicy(t *testing.T) {
	d, registry, c, plain := saved(t, 1, "overlayfs")
	ledger := ledgerKey(t)
	public, private := pemPair(t)
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.yaml")
	text := `version: 1
rules:
- name: sealed
  tenants: [shop]
  from: ["` + registry + `/"]
  keys: [` + publicOf(t, ledger) + `]
  encrypted: true
`
	if err := os.WriteFile(policy, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	made := func(tag string, flags ...string) string {
		args := append([]string{"checkpoint", "--containerd", d.address, "--insecure"}, flags...)
		return strings.TrimSpace(output(t, lithify(t), append(args, c.id, registry+"/"+tag)...))
	}
	signed := made("signed:1", "--sign-key", ledger)
	encrypted := made("encrypted:1", "--encrypt-to", public)
	both := made("both:1", "--sign-key", ledger, "--encrypt-to", public)

	p := startPool(t, 0)
	p.worker(t, "node-1", "--containerd", d.address, "--node", "node-1", "--restore-root", d.restoreRoot(), "--restore-decrypt-with", private, "--restore-policy", policy)
	p.lists(t, "node-1")
	submit := func(tenant, name, src string, flags ...string) []string {
		args := []string{"submit", "restore", "--wait", "--insecure", "--node", "node-1", "--tenant", tenant, "--name", name, src}
		return append(args, flags...)
	}
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"another tenant":        {submit("web", "two", both), "no rule"},
		"nobody's":              {submit(jobs.DefaultTenant, "two", both), "no rule"},
		"neither":               {submit("shop", "two", plain), "rule sealed"},
		"not encrypted":         {submit("shop", "two", signed), "not encrypted"},
		"not signed":            {submit("shop", "two", encrypted), "rule sealed"},
		"the machine's network": {submit("shop", "two", both, "--network", "host"), "networks of rule sealed"},
	} {
		out, err := p.command(t, lithify(t), tc.args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), tc.want) {
			t.Errorf("%s: %v, %s, want a refusal with %q", name, err, out, tc.want)
		}
	}
	var refused []queue.Status
	if err := json.Unmarshal([]byte(p.output(t, "jobs", "list", "-o", "json")), &refused); err != nil {
		t.Fatal(err)
	}
	for _, st := range refused {
		if st.State != jobs.Failed || st.Attempt != 1 {
			t.Errorf("%s is %s after %d attempts, want it failed after one", st.ID, st.State, st.Attempt)
		}
	}
	if len(refused) != 6 {
		t.Errorf("got %d jobs, want 6", len(refused))
	}
	two := d.restored(t, "two")
	p.output(t, submit("shop", two.id, both)...)
	two.goesOn(t, two.count(t))
}
