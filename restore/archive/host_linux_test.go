package archive_test

import (
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/lithify/lithify/restore/archive"
)

func TestThisHost(t *testing.T) {
	got, err := archive.ThisHost(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	if got.Kernel != strings.TrimSpace(string(kernel)) || got.Arch != runtime.GOARCH {
		t.Errorf("got %+v, want kernel %s", got, kernel)
	}
	_, err = os.Stat("/sys/fs/cgroup/cgroup.controllers")
	if want := map[bool]string{true: "2", false: "1"}[err == nil]; got.Cgroup != want {
		t.Errorf("control groups of version %s, want %s", got.Cgroup, want)
	}
	if _, err := exec.LookPath("criu"); (err == nil) != (got.CRIU != "") || strings.ContainsAny(got.CRIU, " \n") {
		t.Errorf("CRIU %q, and criu is there: %v", got.CRIU, err)
	}
	if len(got.CPU.Features) == 0 || !slices.IsSorted(got.CPU.Features) {
		t.Errorf("features %v", got.CPU.Features)
	}
	if slices.Contains(got.CPU.Features, "avx") && got.CPU.XSave < 576+256 { // legacy area and header, upper halves of YMM
		t.Errorf("%d bytes of registers, with avx", got.CPU.XSave)
	}
	if r := got.CanRestore(got); len(r) > 0 {
		t.Errorf("not to be restored where it was dumped: %v", r)
	}
}
