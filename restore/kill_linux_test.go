package restore

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// runc is ended by the end of what it waits for, so that it can take back what it has made, and
// is killed if that is not enough.
func TestKillRestore(t *testing.T) {
	for name, tc := range map[string]struct {
		script  string
		cleared bool
	}{
		"runc clears up": {`touch "$0"/began; sleep 600; touch "$0"/cleared`, true},
		"runc hangs":     {`touch "$0"/began; while :; do sleep 600; done`, false},
	} {
		t.Run(name, func(t *testing.T) {
			if !tc.cleared && testing.Short() {
				t.Skip("waits for runc for its grace: long lane")
			}
			t.Parallel()
			work := t.TempDir()
			runc := exec.Command("/bin/sh", "-c", tc.script, work)
			if err := runc.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- runc.Wait() }()
			there := func(name string) bool { _, err := os.Stat(filepath.Join(work, name)); return err == nil }
			for deadline := time.Now().Add(10 * time.Second); !there("began"); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("it does not begin")
				}
			}
			if err := killRestore(t.Context(), work, filepath.Join(work, "restore.log")); err != nil {
				t.Fatal(err)
			}
			<-ended
			if got := there("cleared"); got != tc.cleared {
				t.Errorf("it has cleared up: %v, want %v", got, tc.cleared)
			}
		})
	}
}
