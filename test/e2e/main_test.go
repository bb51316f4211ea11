//go:build linux

package e2e_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/lithify/lithify/convert/preflight"
)

var asRoot = flag.Bool("test.root", false, "run the tests that mount and start containers")

// inside says that this process is the one that holds the tests.
const inside = "LITHIFY_E2E_INSIDE"

func TestMain(m *testing.M) {
	flag.Parse()
	if *asRoot && os.Getuid() == 0 && os.Getenv(inside) == "" {
		os.Exit(enclose())
	}
	if os.Getenv(inside) != "" {
		if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
			fmt.Fprintln(os.Stderr, "mount /proc:", err)
			os.Exit(1)
		}
	}
	if err := preflight.Breakpoints(); err != nil {
		fmt.Fprintln(os.Stderr, "CRIU does without breakpoints, by CRIU_FAULT=130:", err)
		os.Setenv("CRIU_FAULT", "130") // and all that the tests start
	}
	var err error
	if built, err = os.MkdirTemp("", "lithify-e2e-"); err != nil { // not by its ID, which is 1 inside
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(built)
	os.Exit(code)
}

// enclose runs the tests again as the first process of its own process and mount
// namespaces: whatever they start and mount, shims of containerd among it, is gone
// when they end, however they end.
func enclose() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Unshareflags: syscall.CLONE_NEWNS,
		Cloneflags:   syscall.CLONE_NEWPID,
		Pdeathsig:    syscall.SIGKILL,
	}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "tests in their own namespaces:", err)
		return 1
	}
	return 0
}

func needRoot(t testing.TB) {
	t.Helper()
	if !*asRoot || os.Getuid() != 0 {
		t.Skip("needs root and -test.root")
	}
}

// need returns the path of a program that test/tools/install.sh makes or Debian
// has.
func need(t testing.TB, name string) string {
	t.Helper()
	tools := os.Getenv("LITHIFY_TEST_TOOLS")
	if tools == "" {
		tools = "/var/lib/lithify-test-tools"
	}
	if path := filepath.Join(tools, "bin", name); executable(path) {
		return path
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s: run test/tools/install.sh", name)
	}
	return path
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
