//go:build linux

package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything here may take to be ready: far more than it needs
// on a machine that does nothing else.
var patience = flag.Duration("test.patience", time.Minute, "how long to wait for what another process does")

// built holds this repository's programs, made once for all tests.
var built string

var building sync.Map // name -> func() error

// program builds one of this repository's commands.
func program(t testing.TB, name, pkg string) string {
	t.Helper()
	path := filepath.Join(built, name)
	once, _ := building.LoadOrStore(name, sync.OnceValue(func() error {
		cmd := exec.Command("go", "build", "-o", path, pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
		return nil
	}))
	if err := once.(func() error)(); err != nil {
		t.Fatal(err)
	}
	return path
}

func lithify(t testing.TB) string { return program(t, "lithify", "../../cmd/lithify") }

// before names a directory of programs that a test puts before the tools'.
const before = "LITHIFY_TEST_BEFORE"

// command has the tools first in its PATH.
func command(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv(before)+":"+filepath.Dir(need(t, "mkfs.erofs"))+":"+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// output runs a program to its end and returns what it wrote to stdout.
func output(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := try(t, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func try(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := command(t, name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, tail(stderr.String()))
	}
	return stdout.String(), nil
}

// tail is the end of what a program says: where it says what is wrong.
func tail(s string) string { return s[max(0, len(s)-2000):] }

// process is one that runs beside the test.
type process struct {
	*exec.Cmd
	lines chan string // of its output, until ready has seen what it waits for
	ended chan struct{}
	err   error         // valid once ended is closed
	quiet chan struct{} // closed when all of its output was read

	mu   sync.Mutex
	text strings.Builder // its output
}

// start runs a program until the test ends. What it writes is in the test's log,
// but for what logrus calls info, a line for each request, and what NATS calls trace,
// two for each message.
func start(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	p := &process{Cmd: cmd, lines: make(chan string, 4096), ended: make(chan struct{}), quiet: make(chan struct{})}
	go func() {
		defer close(p.quiet)
		p.log(t, r)
	}()
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-p.ended
		r.Close() // a child of it may hold the other end
		<-p.quiet
	})
	return p
}

func (p *process) log(t testing.TB, r io.Reader) {
	name := filepath.Base(p.Path)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20) // a message of the queue may be one
	for lines.Scan() {
		p.mu.Lock()
		p.text.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
		if !strings.Contains(lines.Text(), "level=info") && !strings.Contains(lines.Text(), " [TRC] ") {
			fmt.Fprintf(t.Output(), "%s: %s\n", name, lines.Text())
		}
		select {
		case p.lines <- lines.Text():
		default: // nobody reads them any more
		}
	}
}

// said is all that it has said.
func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// stop tells it to end, as an init system does, and waits until it has.
func (p *process) stop(t testing.TB) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	happens(t, "end of "+filepath.Base(p.Path), p.quiet)
	<-p.ended
}

// says waits for a line that match accepts, and returns what it made of it.
func (p *process) says(t testing.TB, what string, match func(line string) (string, bool)) string {
	t.Helper()
	deadline := time.After(*patience)
	for {
		select {
		case line := <-p.lines:
			if got, ok := match(line); ok {
				return got
			}
		case <-p.ended:
			t.Fatalf("%s ended before it was ready (%s): %v", p.Path, what, p.err)
		case <-deadline:
			t.Fatalf("%s: no %s in %v", p.Path, what, *patience)
		}
	}
}

// happens waits for a channel that is closed when something does.
func happens(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	await(t, what, func(context.Context) error {
		select {
		case <-c:
			return nil
		default:
			return errors.New("not yet")
		}
	})
}

// await polls for an event in another process: there is nothing to wait on.
func await(t testing.TB, what string, ready func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), *patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not in %v: %v", what, *patience, err)
		}
	}
}
