package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/convert/stack"
)

const (
	// runcGrace is how long runc may take to clear up once CRIU is gone.
	runcGrace = 5 * time.Second
	// killPoll is how often it is looked at who is left.
	killPoll = 20 * time.Millisecond
)

// killRestore ends a restore that has work as CRIU's directory, wherever it hangs: CRIU, and
// all else that runc has started or that has CRIU's log open, as the processes have that CRIU is
// making. runc itself is left to take back what it has made, a mount and a directory, without
// which the container's name can be used again; if it does not end, it is killed, too.
func killRestore(ctx context.Context, work, log string) error {
	tick := time.NewTicker(killPoll)
	defer tick.Stop()
	for began := time.Now(); ; {
		runc, others := restoring(work, log)
		if len(runc)+len(others) == 0 {
			return nil
		}
		if took := time.Since(began); took > 2*runcGrace {
			return fmt.Errorf("processes %v restore, and do not end: %w", slices.Concat(runc, others), errdefs.ErrUnavailable)
		} else if took > runcGrace {
			others = append(others, runc...)
		}
		for _, pid := range others {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill process %d, which restores: %w", pid, err)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// restoring finds runc, which has work among its arguments, and the others.
func restoring(work, log string) (runc, others []int) {
	parent := map[int]int{}
	at := map[int]bool{} // a restore, in any role
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs { // one that is gone meanwhile says nothing
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if pid == os.Getpid() {
			continue
		}
		parent[pid], _ = stack.ParentPID(pid)
		args, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		if slices.ContainsFunc(bytes.Split(args, []byte{0}), func(arg []byte) bool { return string(arg) == work }) {
			runc, at[pid] = append(runc, pid), true
		} else if hasOpen(dir, log) {
			others, at[pid] = append(others, pid), true
		}
	}
	for again := true; again; {
		again = false
		for pid, ppid := range parent {
			if at[ppid] && !at[pid] {
				others, at[pid], again = append(others, pid), true, true
			}
		}
	}
	return runc, others
}

func hasOpen(dir, file string) bool {
	fds, _ := filepath.Glob(filepath.Join(dir, "fd/*"))
	return slices.ContainsFunc(fds, func(fd string) bool {
		at, err := os.Readlink(fd)
		return err == nil && at == file
	})
}
