package erofstest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// DebianRoot is where a Debian 13 root with erofs-utils lies unless
// LITHIFY_TRIXIE_ROOT names another.
const DebianRoot = "/var/lib/lithify-test-trixie"

// Command runs a program of the Debian root (mkfs.erofs, fsck.erofs, dump.erofs)
// with the root's libraries, outside it. The test is skipped where there is no
// such root.
func Command(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	root := os.Getenv("LITHIFY_TRIXIE_ROOT")
	if root == "" {
		root = DebianRoot
	}
	loader := filepath.Join(root, "lib64/ld-linux-x86-64.so.2")
	program := filepath.Join(root, "usr/bin", name)
	for _, p := range []string{loader, program} {
		if _, err := os.Stat(p); err != nil {
			t.Skipf("%v: make a Debian 13 root with erofs-utils there, or name one in LITHIFY_TRIXIE_ROOT", err)
		}
	}
	lib := filepath.Join(root, "usr/lib/x86_64-linux-gnu")
	return exec.CommandContext(t.Context(), loader, append([]string{"--library-path", lib, program}, args...)...)
}

// Program finds a program of the host that may lie where only root looks for it
// (veritysetup, fsverity). The test is skipped where it is missing.
func Program(t testing.TB, name string) string {
	t.Helper()
	for _, path := range []string{name, "/usr/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	t.Skipf("no %s: run test/tools/install.sh", name)
	return ""
}

// Fsck fails the test if fsck.erofs, with these options, finds fault with an image. It
// is a subtest, so that where there is no fsck.erofs nothing else is skipped.
func Fsck(t *testing.T, image string, options ...string) {
	t.Helper()
	t.Run("fsck", func(t *testing.T) {
		if out, err := Command(t, "fsck.erofs", append(options, image)...).CombinedOutput(); err != nil {
			t.Errorf("fsck.erofs %s: %v\n%s", image, err, out)
		}
	})
}
