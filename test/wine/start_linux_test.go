package wine_test

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// patience is how long anything may take to be ready here.
const patience = time.Minute

// start starts a program that lives until the test ends, or until it is killed, and waits until
// it says that it is up.
func start(t *testing.T, cmd *exec.Cmd, up string) (kill func()) {
	t.Helper()
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready, read, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(read)
		said := false
		for lines := bufio.NewScanner(r); lines.Scan(); {
			fmt.Fprintln(t.Output(), lines.Text())
			if !said && strings.Contains(lines.Text(), up) {
				said = true
				close(ready)
			}
		}
	}()
	go func() {
		defer close(ended)
		_ = cmd.Wait()
		w.Close()
	}()
	kill = func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
		<-read
	}
	t.Cleanup(kill)
	select {
	case <-ready:
	case <-ended:
		t.Fatalf("%v has ended: %v", cmd, cmd.ProcessState)
	case <-time.After(patience):
		t.Fatalf("%v does not say %q", cmd, up)
	}
	return kill
}
