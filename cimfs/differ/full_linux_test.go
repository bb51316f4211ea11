package differ_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/lithify/lithify/cimfs"
)

var rootFlag = flag.Bool("test.root", false, "run tests that mount, as root")

func TestDiskFull(t *testing.T) {
	if !*rootFlag {
		t.Skip("mounts: run as root with -test.root")
	}
	if os.Geteuid() != 0 {
		t.Fatal("-test.root without being root")
	}
	dir := t.TempDir()
	if err := unix.Mount("lithify-test", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	n := newNode(t)
	_, err := n.diff.Apply(testContext(t), n.add(t, cimfs.MediaTypeLayerZstd, compressed(t, block(4096))), layerIn(dir))
	if err == nil || !strings.Contains(err.Error(), unix.ENOSPC.Error()) {
		t.Errorf("error %v, want %v", err, unix.ENOSPC)
	}
	if left := names(t, dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
