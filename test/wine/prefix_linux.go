package wine

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// grace is for what holds a program's output when the program has ended.
const grace = 5 * time.Second

// A Prefix is a Windows of a test's own: its drive C:, its registry and the processes in it.
// Z: is / of Linux.
type Prefix struct {
	dir      string // of the prefix
	programs string
	made     string // of test/tools/wine/make.sh
}

// New makes a Prefix, which ends with the test. Where there is no Wine the test is skipped;
// CI has it.
func New(t testing.TB) *Prefix {
	t.Helper()
	tools := cmp.Or(os.Getenv("LITHIFY_TEST_TOOLS"), "/var/lib/lithify-test-tools")
	made, err := filepath.EvalSymlinks(filepath.Join(tools, "wine"))
	if err == nil {
		_, err = exec.LookPath("wine")
	}
	switch {
	case err != nil && os.Getenv("CI") == "true":
		t.Fatalf("no Wine, which CI must have: %v", err)
	case err != nil:
		t.Skipf("no Wine: run test/tools/install.sh: %v", err)
	}
	p := &Prefix{filepath.Join(t.TempDir(), "prefix"), t.TempDir(), made}
	run(t, nil, "cp", "-a", "--reflink=auto", filepath.Join(made, "prefix"), p.dir)
	p.boot(t)
	t.Cleanup(func() {
		// It fails where there is no server any more. The other waits for its end.
		kill := exec.Command("wineserver", "--kill")
		kill.Env = append(os.Environ(), p.env()...)
		_ = kill.Run()
		run(t, p.env(), "wineserver", "--wait")
	})
	return p
}

// boot starts what any first program of Wine starts, so that none of it holds the output of
// a test's program. It ends a minute after the last program, if nothing ends it before.
func (p *Prefix) boot(t testing.TB) {
	t.Helper()
	server := exec.Command("wineserver", "--persistent=60")
	server.Env = append(os.Environ(), p.env()...)
	if err := errors.Join(server.Run(), p.Command(t.Context(), "wineboot", nil).Run()); err != nil {
		t.Fatal(err)
	}
}

// Program builds a package's main, with flags of go build, and places it beside cimwriter.dll. A
// second call with the same name finds it there.
func (p *Prefix) Program(t testing.TB, name, pkg string, flags ...string) string {
	t.Helper()
	return p.build(t, name, slices.Concat([]string{"go", "build"}, flags, []string{pkg})...)
}

// Test runs the tests of a package, which see the prefix as their Windows.
func (p *Prefix) Test(t *testing.T, pkg string, args ...string) {
	t.Helper()
	exe := p.build(t, path.Base(pkg)+".test", "go", "test", "-c", pkg)
	cmd := p.Command(t.Context(), exe, nil, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", pkg, err, out)
	}
}

// build runs a command of go, the last of which is the package.
func (p *Prefix) build(t testing.TB, name string, command ...string) string {
	t.Helper()
	dir := filepath.Join(p.programs, name)
	exe := filepath.Join(dir, name+".exe")
	if _, err := os.Stat(exe); err == nil {
		return exe
	}
	last := len(command) - 1
	args := slices.Concat(command[1:last], []string{"-ldflags=-s -w", "-o", exe, command[last]})
	run(t, []string{"GOOS=windows", "CGO_ENABLED=0"}, command[0], args...)
	run(t, nil, "cp", filepath.Join(p.made, "cimwriter.dll"), dir)
	return exe
}

// Command is of a program and its arguments, which know no path of Linux: see Path. env is
// added to the environment of the test. The program ends with ctx, or with the test.
func (p *Prefix) Command(ctx context.Context, exe string, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "wine", append([]string{exe}, args...)...)
	cmd.Env = append(append(os.Environ(), p.env()...), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = grace
	return cmd
}

// Drive is where Linux has the drive C:.
func (p *Prefix) Drive() string { return filepath.Join(p.dir, "drive_c") }

func (p *Prefix) env() []string {
	return []string{"WINEPREFIX=" + p.dir, "WINEDEBUG=-all", "WINEDLLOVERRIDES=virtdisk=n"}
}

// Path is what an absolute path of Linux is called in a Prefix.
func Path(unix string) string { return "Z:" + strings.ReplaceAll(unix, "/", `\`) }

// run is for what does not stay: it waits for all that has its output.
func run(t testing.TB, env []string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
}
