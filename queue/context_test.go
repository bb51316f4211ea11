package queue_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/lithify/lithify/queue"
)

func TestContextFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "context.json")
	t.Setenv("LITHIFY_CONTEXT", path)
	if got, err := queue.ContextPath(); err != nil || got != path {
		t.Errorf("path %s, %v", got, err)
	}
	if _, err := queue.ReadContext(path); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "lithify serve") {
		t.Errorf("absent: %v", err)
	}
	want := queue.Context{URL: "nats://127.0.0.1:1", NkeyFile: "/x", PID: 7, Version: "v1"}
	for range 2 { // the second replaces the first
		if err := queue.WriteContext(path, want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := queue.ReadContext(path)
	if diff := cmp.Diff(got, want); err != nil || diff != "" {
		t.Errorf("%v -got +want:\n%s", err, diff)
	}
	if fi, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	for name, bad := range map[string]string{"truncated": `{"url":`, "empty": `{}`} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := queue.ReadContext(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A serve that was killed leaves its file behind: the error says so.
func TestStaleContext(t *testing.T) {
	dir := t.TempDir()
	gone := exec.Command(os.Args[0], "-test.run=^$")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		pid  int
		want string
	}{
		"killed": {gone.Process.Pid, "has ended"},
		"hung":   {os.Getpid(), "does not answer"},
	} {
		path := filepath.Join(dir, name)
		if err := queue.WriteContext(path, queue.Context{URL: "nats://127.0.0.1:1", PID: tc.pid}); err != nil {
			t.Fatal(err)
		}
		if _, err := queue.Connect(t.Context(), queue.Config{ContextFile: path}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestConnectHidesCredentials(t *testing.T) {
	_, err := queue.Connect(t.Context(), queue.Config{URL: "nats://hunter2@127.0.0.1:1,nats://bob:hunter2@127.0.0.1:1"})
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("got %v", err)
	}
}
