//go:build linux

package e2e_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// mountImage mounts an image file without a loop device until the test ends. The
// file lies on ext4: the kernel refuses one on tmpfs.
func mountImage(t *testing.T, image string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(image, dir, "erofs", syscall.MS_RDONLY, ""); err != nil {
		t.Fatalf("mount %s: %v", image, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// removeAll removes a directory in which a daemon left mounts.
func removeAll(t testing.TB, dir string) {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(raw)) {
		// The fifth field is where it is mounted; see proc_pid_mountinfo(5).
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			err = errors.Join(err, syscall.Unmount(f[4], syscall.MNT_DETACH))
		}
	}
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		t.Errorf("clean up %s: %v", dir, err)
	}
}
