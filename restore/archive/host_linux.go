package archive

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// criuTimeout is for criu --version, which does nothing.
const criuTimeout = 30 * time.Second

// ThisHost finds out about this machine. Without CRIU its field is empty.
func ThisHost(ctx context.Context) (Host, error) {
	h := Host{Arch: runtime.GOARCH, Cgroup: "1"}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return h, fmt.Errorf("uname: %w", err)
	}
	h.Kernel = unix.ByteSliceToString(name.Release[:])
	var fs unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &fs); err != nil {
		return h, fmt.Errorf("control groups: %w", err)
	}
	if fs.Type == unix.CGROUP2_SUPER_MAGIC {
		h.Cgroup = "2"
	}
	var err error
	if h.CPU, err = thisCPU(); err != nil {
		return h, err
	}
	h.CRIU, err = criuVersion(ctx)
	return h, err
}

// thisCPU reads the first processor of /proc/cpuinfo.
func thisCPU() (CPU, error) {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return CPU{}, err
	}
	defer f.Close()
	c := CPU{XSave: xsaveSize()}
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() && s.Text() != "" { // an empty line ends a processor
		key, value, _ := strings.Cut(s.Text(), ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "vendor_id", "CPU implementer":
			c.Vendor = value
		case "model name":
			c.Model = value
		case "flags", "Features":
			c.Features = strings.Fields(value)
			slices.Sort(c.Features)
		}
	}
	return c, s.Err()
}

// criuVersion asks criu, as "Version: 4.1.1".
func criuVersion(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, criuTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "criu", "--version").Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("criu --version: %w", err)
	}
	for line := range bytes.Lines(out) {
		if v, ok := bytes.CutPrefix(line, []byte("Version:")); ok {
			return string(bytes.TrimSpace(v)), nil
		}
	}
	return "", fmt.Errorf("criu --version names none: %q", out)
}
