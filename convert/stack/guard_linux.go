package stack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// guardEnv makes a process a guard: address, namespace and ID, one a line.
const guardEnv = "LITHIFY_FREEZE_GUARD"

// lockDir holds a lock for each container that is frozen. Process and guard share it,
// so that it is free when both are gone; the last one takes the file away.
const lockDir = "/run/lithify/frozen"

const (
	dismissed = "dismissed\n"
	standing  = "standing\n"
	// latePause is how long a pause may take to happen that was asked for by a process
	// that is dead.
	latePause = 5 * time.Second
	lookEvery = 100 * time.Millisecond
)

// RunGuard returns at once, but in a process that [Container.Freeze] has started to
// watch over another one: that waits, resumes the container if the other dies without a
// word, and ends. A kill of the whole control group takes the guard too; what is then
// left paused, [Thaw] resumes, or the next Freeze of the same container.
func RunGuard() {
	what, ok := os.LookupEnv(guardEnv)
	if !ok {
		return
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	if err := runGuard(what, os.NewFile(3, "word"), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "lithify freeze guard:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runGuard(what string, word io.Reader, out io.WriteCloser) error {
	part := strings.Split(what, "\n")
	if len(part) != 3 {
		return fmt.Errorf("$%s does not name a container", guardEnv)
	}
	ctx := context.Background() // which nobody ends: that is the guard's purpose
	d, err := Dial(part[0], part[1])
	if err != nil {
		return err
	}
	defer d.Close()
	c, err := d.client.LoadContainer(ctx, part[2])
	if err != nil {
		return err
	}
	task, err := c.Task(ctx, nil)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(out, standing); err != nil {
		return err
	}
	out.Close()
	if line, _ := bufio.NewReader(word).ReadString('\n'); line == dismissed {
		return nil
	}
	for end := time.Now().Add(latePause); ; time.Sleep(lookEvery) {
		err := thaw(ctx, c, task)
		if err == nil && time.Now().After(end) {
			return removeLock(what)
		}
		if err != nil && time.Now().After(end.Add(time.Minute)) {
			return err
		}
	}
}

func thaw(ctx context.Context, c client.Container, task client.Task) error {
	ctx, cancel := untold(ctx, thawTimeout)
	defer cancel()
	return resume(ctx, c, task)
}

// guard is the process that resumes a container if this one cannot.
type guard struct {
	what string // it watches over, as guardEnv has it
	cmd  *exec.Cmd
	word *os.File
	lock *os.File
}

// startGuard returns when the guard stands.
func startGuard(ctx context.Context, c *Container) (_ *guard, err error) {
	what := c.guarded()
	lock, err := lockContainer(what)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", c.ID(), err)
	}
	r, word, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, unlock(what, lock))
	}
	defer r.Close()
	g := &guard{what: what, word: word, lock: lock}
	g.cmd = exec.Command("/proc/self/exe")
	g.cmd.Env = append(os.Environ(), guardEnv+"="+what)
	g.cmd.ExtraFiles = []*os.File{r, lock}
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var said strings.Builder
	g.cmd.Stderr = &said
	out, err := g.cmd.StdoutPipe()
	if err == nil {
		err = g.cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(err, word.Close(), unlock(what, lock))
	}
	stop := context.AfterFunc(ctx, func() { g.cmd.Process.Kill() })
	line, _ := bufio.NewReader(out).ReadString('\n')
	if !stop() || line != standing {
		return nil, errors.Join(context.Cause(ctx), g.abandon(), fmt.Errorf("it did not stand: %s", strings.TrimSpace(said.String())))
	}
	return g, nil
}

// dismiss ends the guard: the container runs again.
func (g *guard) dismiss() error {
	_, err := io.WriteString(g.word, dismissed)
	return errors.Join(err, g.abandon())
}

// abandon leaves the rest to the guard and waits for it.
func (g *guard) abandon() error {
	return errors.Join(g.word.Close(), g.cmd.Wait(), unlock(g.what, g.lock))
}

// guarded says which container this is.
func (c *Container) guarded() string {
	return strings.Join([]string{c.daemon.address, c.daemon.namespace, c.ID()}, "\n")
}

func lockPath(what string) string {
	return filepath.Join(lockDir, digest.FromString(what).Encoded())
}

// lockContainer makes sure that one process at a time freezes a container: the first
// that is done would resume it under the hands of the other.
func lockContainer(what string) (*os.File, error) {
	if err := os.MkdirAll(lockDir, 0o700); err != nil {
		return nil, err
	}
	for {
		f, err := os.OpenFile(lockPath(what), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("it is being committed by another process: %w", errBusy)
			}
			return nil, err
		}
		if named(f) {
			return f, nil
		}
		f.Close() // who had it took it away before we locked it
	}
}

// named reports whether f is still the file of its name.
func named(f *os.File) bool {
	has, err := f.Stat()
	if err != nil {
		return false
	}
	is, err := os.Stat(f.Name())
	return err == nil && os.SameFile(has, is)
}

// unlock takes the file away while the lock is held.
func unlock(what string, lock *os.File) error {
	return errors.Join(removeLock(what), lock.Close())
}

func removeLock(what string) error {
	if err := os.Remove(lockPath(what)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
