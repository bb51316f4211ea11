package preflight_test

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/convert/preflight"
)

// withBreakpoints unsets the variable by which CRIU does without.
func withBreakpoints(t *testing.T) {
	t.Helper()
	t.Setenv("CRIU_FAULT", "") // and as it was at the end
	os.Unsetenv("CRIU_FAULT")
}

// dumps says whether CRIU comes to an end with a process that sleeps.
func dumps(t *testing.T) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	victim := exec.Command("sleep", "1000")
	victim.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	defer victim.Wait()
	defer victim.Process.Kill()
	criu := exec.CommandContext(ctx, "criu", "dump", "-t", strconv.Itoa(victim.Process.Pid), "-D", t.TempDir(), "--leave-running")
	out, err := criu.CombinedOutput()
	if err != nil && ctx.Err() == nil {
		t.Fatalf("criu dump: %v: %s", err, out)
	}
	return err == nil
}

// TestBreakpoints has the real CRIU agree: where breakpoints do not work it waits for ever, unless
// it is told to do without.
func TestBreakpoints(t *testing.T) {
	if !*rootFlag || os.Getuid() != 0 {
		t.Skip("dumps a process: run as root with -test.root")
	}
	if _, err := exec.LookPath("criu"); err != nil {
		t.Skip("no criu: run test/tools/install.sh")
	}
	err := preflight.Breakpoints()
	if errdefs.IsNotImplemented(err) {
		t.Skip("breakpoints are tried on amd64 only")
	}
	t.Logf("breakpoints: %v", err)
	withBreakpoints(t)
	if got := dumps(t); got != (err == nil) {
		t.Errorf("a dump that ends: %v, and breakpoints: %v", got, err)
	}
	t.Setenv("CRIU_FAULT", "130")
	if !dumps(t) {
		t.Error("a dump without breakpoints does not end")
	}
}

// TestBreakpointsOfContainerd has a containerd whose CRIU may use them.
func TestBreakpointsOfContainerd(t *testing.T) {
	withBreakpoints(t)
	address := daemon{disabled: withoutCRI}.start(t)
	fact := check(t, preflight.Options{Dir: t.TempDir(), Containerd: address})["containerd-criu"]
	err := preflight.Breakpoints()
	if fine := err == nil || errdefs.IsNotImplemented(err); fact.OK != fine || !fine && !strings.Contains(fact.Found, "CRIU_FAULT=130") {
		t.Errorf("%+v, and breakpoints: %v", fact, err)
	}
}
