package build

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const interrupt = unix.SIGTERM

// command is a program that is the first process of its own namespace of processes: when
// it ends, the kernel ends all that it started. What it mounts is gone with it, too.
func command(path string, args ...string) (*exec.Cmd, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("a buildkitd of our own needs root; name one that runs with --buildkit: %w", errdefs.ErrPermissionDenied)
	}
	// Of those it needs the processes of the new namespace in /proc.
	cmd := exec.Command("/bin/sh", append([]string{"-c", `mount -t proc proc /proc && exec "$0" "$@"`, path}, args...)...)
	cmd.SysProcAttr = &unix.SysProcAttr{
		Cloneflags:   unix.CLONE_NEWPID,
		Unshareflags: unix.CLONE_NEWNS,
		Pdeathsig:    unix.SIGKILL,
		Setpgid:      true, // ^C is for us
	}
	return cmd, nil
}

// removeCgroups removes those of the steps of a daemon that was killed, in each hierarchy: runc
// does so at the end of a step. The steps' bundles in its root directory tell which they are.
func removeCgroups(root string) {
	steps, _ := os.ReadDir(filepath.Join(root, "runc-overlayfs", "executor")) // there is none before the first step
	for _, step := range steps {
		for _, hierarchy := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
			dirs, _ := filepath.Glob(filepath.Join(hierarchy, "buildkit", step.Name())) // the pattern is well formed
			for _, dir := range dirs {
				os.Remove(dir) // fails where it is in use
			}
		}
	}
}

// pinThread keeps the thread that starts the daemon: the kernel takes its end for that of
// the whole process.
func pinThread() (release func()) {
	runtime.LockOSThread()
	return runtime.UnlockOSThread
}
