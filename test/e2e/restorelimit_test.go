//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRestoreLimit has restores take too long at each stage of runc's and CRIU's work: none leaves
// anything by which the next one of that name could fail.
func TestRestoreLimit(t *testing.T) {
	if testing.Short() {
		t.Skip("restores a dozen times: long lane")
	}
	d, _, _, ref := saved(t, 2, "overlayfs")
	two := d.restored(t, "two")
	for ms := 40; ; ms += 25 {
		code, said := exit(t, lithify(t), d.restoreArgs(ref, two.id, "--limit", fmt.Sprint(ms, "ms"))...)
		if code == 0 {
			break
		}
		if code != 5 || !strings.Contains(said, "longer than allowed") || ms > 10_000 {
			t.Fatalf("within %d ms: exit code %d, %q; want 5", ms, code, said)
		}
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil || strings.Contains(string(mounts), filepath.Join(d.restoreRoot(), "containers")) || strings.Contains(string(mounts), "/two/criu-root") {
			t.Fatalf("within %d ms: %v, it leaves a mount: %s", ms, err, mounts)
		}
	}
	two.goesOn(t, two.count(t))
}
