package restore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/lithify/lithify/convert/stack"
)

// killRestore kills who restores with work as CRIU's directory: runc, which has it among
// its arguments, all that it has started, and whoever has CRIU's log open, as CRIU and the
// processes have that it is making. A restore that hangs does so in any of them.
func killRestore(work, log string) (err error) {
	parent := map[int]int{}
	doomed := map[int]bool{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs { // one that is gone meanwhile says nothing
		pid, _ := strconv.Atoi(filepath.Base(dir))
		parent[pid], _ = stack.ParentPID(pid)
		args, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		runs := slices.ContainsFunc(bytes.Split(args, []byte{0}), func(arg []byte) bool { return string(arg) == work })
		doomed[pid] = pid != os.Getpid() && (runs || hasOpen(dir, log))
	}
	for again := true; again; {
		again = false
		for pid, ppid := range parent {
			if doomed[ppid] && !doomed[pid] {
				doomed[pid], again = true, true
			}
		}
	}
	for pid, yes := range doomed {
		if !yes {
			continue
		}
		if kerr := syscall.Kill(pid, syscall.SIGKILL); kerr != nil && !errors.Is(kerr, syscall.ESRCH) {
			err = errors.Join(err, fmt.Errorf("kill process %d, which restores: %w", pid, kerr))
		}
	}
	return err
}

func hasOpen(dir, file string) bool {
	fds, _ := filepath.Glob(filepath.Join(dir, "fd/*"))
	return slices.ContainsFunc(fds, func(fd string) bool {
		at, err := os.Readlink(fd)
		return err == nil && at == file
	})
}
