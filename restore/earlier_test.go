package restore

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/convert/stack"
)

// The lock of web holds whatever becomes of a container that is called as it might be.
func TestLock(t *testing.T) {
	root := t.TempDir()
	named := func(name string) *run {
		return &run{daemon: &stack.Daemon{}, opts: Options{Name: name, Root: root}}
	}
	unlock, err := named("web").lock()
	if err != nil {
		t.Fatal(err)
	}
	other := named("web.lock")
	otherUnlock, err := other.lock()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(other.state()); err != nil { // as earlier does first
		t.Fatal(err)
	}
	if err := os.MkdirAll(other.work(), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := named("web").lock(); !errdefs.IsUnavailable(err) {
		t.Errorf("web is locked, and a second lock of it: got %v, want it unavailable", err)
	}
	for _, u := range []func() error{unlock, otherUnlock} {
		if err := u(); err != nil {
			t.Error(err)
		}
	}
}

// A name is no path: nothing is made where one leads to.
func TestRemoveRefused(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"", "../web", "../../../../web", "web/x"} {
		if err := Remove(t.Context(), &stack.Daemon{}, Options{Name: name, Root: filepath.Join(root, "restore"), Job: "restore-1"}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: got %v, want it refused", name, err)
		}
	}
	if made, err := os.ReadDir(root); err != nil || len(made) > 0 {
		t.Errorf("made: %v, %v", made, err)
	}
}
