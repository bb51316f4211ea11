package stack_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/convert/stack"
)

const heldEnv = "LITHIFY_TEST_HELD_ROOT"

// TestHoldRoot is of the process that TestAbandoned starts.
func TestHoldRoot(t *testing.T) {
	root := os.Getenv(heldEnv)
	if root == "" {
		return
	}
	s, err := stack.Open(t.Context(), root, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the other ends
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestAbandoned has the number of a process lie, as that of another account does, and one that
// is used again.
func TestAbandoned(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	is := func(want bool, when string) {
		t.Helper()
		if got := stack.Abandoned(root); got != want {
			t.Errorf("%s: abandoned is %v, want %v", when, got, want)
		}
	}
	says := func(pid int) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root, "pid"), []byte(strconv.Itoa(pid)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	is(false, "before it is one")
	kill := hold(t, root)
	is(false, "open")
	if s, err := stack.Open(t.Context(), root, slog.New(slog.DiscardHandler)); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), root) {
		t.Errorf("opened twice: %v, %v", s, err)
	}
	if _, err := os.Stat(filepath.Join(root, "pid")); err != nil {
		t.Errorf("who asked has taken the number away: %v", err)
	}
	says(1<<30 - 4)
	is(false, "open in a process whose number is not seen")
	kill()
	is(true, "after a kill")
	says(os.Getpid())
	is(true, "after a kill, and the number is another's")
	s, err := stack.Open(t.Context(), root, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	is(false, "open here")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	is(false, "closed, and its maker's to remove")
}

// hold has another process open a root, and kill end that.
func hold(t *testing.T, root string) (kill func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestHoldRoot$")
	cmd.Env = append(os.Environ(), heldEnv+"="+root)
	cmd.Stderr = t.Output()
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "open\n" {
		kill()
		t.Fatalf("it says %q, %v", line, err)
	}
	return kill
}
