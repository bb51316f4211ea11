//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sample is one run of one contestant, its children included.
type sample struct {
	wall, cpu float64 // seconds
	rss       float64 // MB, the largest process
	written   float64 // bytes that reached the page cache of a disk
	blob      float64 // bytes of what it made
	output    string
}

// measure runs c in an empty directory below dir.
func (c contestant) measure(ctx context.Context, dir string) (s sample, err error) {
	work, err := os.MkdirTemp(dir, "run")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(work)
	if c.dir != nil {
		if err := c.dir(work); err != nil {
			return s, err
		}
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = work, &stdout, &stderr
	cmd.Env = append(append(os.Environ(), "TMPDIR="+work), c.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return s, err
	}
	// The process is left unreaped for a moment: its counters live that long.
	for {
		if err = unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			break
		}
	}
	s.wall = time.Since(begin).Seconds()
	s.written = written(cmd.Process.Pid)
	if err := cmd.Wait(); err != nil {
		return s, fmt.Errorf("%s: %w\n%s", strings.Join(c.args, " "), err, stderr.Bytes())
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	s.cpu = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	s.rss = float64(usage.Maxrss) / 1024
	s.output = stdout.String()
	s.blob = blobSize(work, s.output)
	return s, nil
}

// written is write_bytes of proc_pid_io(5): bytes that are to reach a disk.
func written(pid int) float64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		if v, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			n, _ := strconv.ParseFloat(strings.TrimSpace(v), 64)
			return n
		}
	}
	return 0
}

// blobSize is the size a converter prints, else that of the file it made.
func blobSize(work, output string) float64 {
	if f := strings.Fields(output); len(f) > 1 {
		n, _ := strconv.ParseFloat(f[1], 64)
		return n
	}
	info, err := os.Stat(filepath.Join(work, "blob"))
	if err != nil {
		return 0
	}
	return float64(info.Size())
}
