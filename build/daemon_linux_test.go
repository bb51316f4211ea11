package build_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lithify/lithify/build"
)

// TestRunDaemon: one that is killed is started again, at the same address.
func TestRunDaemon(t *testing.T) {
	first := startDaemon(t) // looks for what it needs, and makes a root directory
	root := filepath.Dir(strings.TrimPrefix(first.Address(), "unix://"))
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- build.RunDaemon(ctx, build.DaemonConfig{Root: root}, func(address string) { ready <- address })
	}()
	var e build.Engine
	select {
	case e.Address = <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	old := daemonOf(t, root)
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for now := old; now == old || now == 0 || e.Ping(ctx) != nil; now = daemonOf(t, root) {
		if time.Now().After(deadline) {
			t.Fatal("it was not started again")
		}
		time.Sleep(20 * time.Millisecond)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if pid := daemonOf(t, root); pid != 0 {
		t.Errorf("process %d runs on", pid)
	}
}

// daemonOf is the process of the daemon that has a root directory, 0 for none.
func daemonOf(t *testing.T, root string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		raw, _ := os.ReadFile(f) // it may have ended
		if args := strings.Split(string(raw), "\x00"); strings.HasSuffix(args[0], "/buildkitd") && strings.HasPrefix(args[2], root) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	return 0
}

// TestRunDaemonGoesOn: one that does not start again today may do so tomorrow.
func TestRunDaemonGoesOn(t *testing.T) {
	first := startDaemon(t) // looks for what it needs, and makes a root directory
	root := filepath.Dir(strings.TrimPrefix(first.Address(), "unix://"))
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	real, err := exec.LookPath("buildkitd")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken")
	script := fmt.Sprintf("#!/bin/sh\n[ ! -e %s ] && exec %s \"$@\"\n", broken, real)
	if err := os.WriteFile(filepath.Join(dir, "buildkitd"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	ctx, stop := context.WithCancel(t.Context())
	failed := make(chan struct{}, 100)
	log := slog.New(slog.NewTextHandler(writer(func(p []byte) {
		if strings.Contains(string(p), "does not start again") {
			failed <- struct{}{}
		}
	}), nil))
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- build.RunDaemon(ctx, build.DaemonConfig{Root: root, Log: log}, func(address string) { ready <- address })
	}()
	e := build.Engine{Address: <-ready}
	if err := os.WriteFile(broken, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(daemonOf(t, root), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-failed:
	case err := <-ended:
		t.Fatalf("it gave up: %v", err)
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for e.Ping(ctx) != nil {
		if time.Now().After(deadline) {
			t.Fatal("it was not started again")
		}
		time.Sleep(20 * time.Millisecond)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
