package stack

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
)

var rootFlag = flag.Bool("test.root", false, "run tests that mount, as root")

// waits is a container's process: it says that it runs, and does until its stdin ends.
const waits = `package main

import ("fmt"; "io"; "os")

func main() { fmt.Println("here"); io.Copy(io.Discard, os.Stdin) }
`

// TestUpperOf: the upper directory is that of the mount that the parent made; a process
// that mounted another over it, with the name of any directory of this machine, is
// believed nothing.
func TestUpperOf(t *testing.T) {
	if !*rootFlag || os.Getuid() != 0 {
		t.Skip("mounts overlayfs: run as root with -test.root")
	}
	dir, err := os.MkdirTemp("/var/tmp", "lithify-stack") // overlayfs wants no overlayfs below its upper directory
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, d := range []string{"lower", "upper", "work", "root", "upper2", "work2", "root2"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(waits), 0o644); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", "lower/waits", "main.go")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	overlay := "mount -t overlay overlay -o lowerdir=%[1]s/lower,upperdir=%[1]s/upper%[2]s,workdir=%[1]s/work%[2]s %[1]s/root%[2]s"
	for _, cmd := range []*exec.Cmd{build, exec.Command("sh", "-ec", fmt.Sprintf(overlay, dir, ""))} {
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, out)
		}
	}
	t.Cleanup(func() { exec.Command("umount", filepath.Join(dir, "root")).Run() })

	if up, err := upperOf(start(t, "chroot", filepath.Join(dir, "root"), "/waits")); err != nil || up.Dir != filepath.Join(dir, "upper") {
		t.Errorf("got %+v, %v", up, err)
	}
	hostile := start(t, "unshare", "--mount", "sh", "-ec", fmt.Sprintf(overlay+" && exec chroot %[1]s/root%[2]s /waits", dir, "2"))
	if up, err := upperOf(hostile); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a mount of the process itself: got %+v, %v", up, err)
	}
}

// start returns when the process says that it runs.
func start(t *testing.T, name string, args ...string) (pid int) {
	t.Helper()
	cmd := exec.Command(name, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return cmd.Process.Pid
}
