//go:build linux

package e2e_test

import (
	"strings"
	"testing"
)

// TestCheckpointPrune removes checkpoints from distribution's registry: as it comes,
// which lets nobody delete, and as it can be.
func TestCheckpointPrune(t *testing.T) {
	d, registry, c, _ := saved(t, 1, "overlayfs")
	t.Setenv("REGISTRY_STORAGE_DELETE_ENABLED", "false")
	frozen := startRegistry(t)
	for _, ref := range []string{frozen + "/saved:1", frozen + "/saved:2", registry + "/saved:2", registry + "/saved:3"} {
		output(t, lithify(t), "checkpoint", "--containerd", d.address, "--insecure", c.id, ref)
	}
	prune := func(registry string, flags ...string) []string {
		return append([]string{"checkpoint", "prune", "--insecure", "--keep", "1", registry + "/saved"}, flags...)
	}
	if code, said := exit(t, lithify(t), prune(frozen, "--delete")...); code == 0 || !strings.Contains(said, "REGISTRY_STORAGE_DELETE_ENABLED") {
		t.Errorf("exit code %d, %q", code, said)
	}
	if got := tags(t, frozen, "saved"); got != "1\n2\n" {
		t.Errorf("tags %q after a deletion that was refused", got)
	}
	if got := output(t, lithify(t), prune(registry)...); strings.Count(got, "to be deleted") != 2 || tags(t, registry, "saved") != "1\n2\n3\n" {
		t.Errorf("got\n%s", got)
	}
	if got := output(t, lithify(t), prune(registry, "--except", "1", "--delete")...); strings.Count(got, " deleted") != 1 || !strings.Contains(got, "stays: tag 1") {
		t.Errorf("got\n%s", got)
	}
	if got := tags(t, registry, "saved"); got != "1\n3\n" {
		t.Errorf("tags %q", got)
	}
	two := d.restored(t, "two") // of what stays all is there
	output(t, lithify(t), d.restoreArgs(registry+"/saved:3", two.id)...)
	two.goesOn(t, two.count(t))
	if code, said := exit(t, lithify(t), "checkpoint", "prune", registry+"/saved"); code != 2 || !strings.Contains(said, "what stays") {
		t.Errorf("no policy: exit code %d, %q", code, said)
	}
}
