//go:build linux

package chaos_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a program that is started again whenever it ends, as systemd would.
type process struct {
	name string
	make func(life int) *exec.Cmd
	log  *os.File // of all its lives

	done sync.WaitGroup
	stop chan struct{}

	mu    sync.Mutex
	cmd   *exec.Cmd     // of this life
	ended chan struct{} // closed when this life has ended
	lives int
	hold  time.Duration // before the next life
	down  bool          // no next life until up
	wake  chan struct{}
}

// restart is the pause before a process that ended by itself is started again.
const restart = 100 * time.Millisecond

func startProcess(name, log string, make_ func(life int) *exec.Cmd) (*process, error) {
	f, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	p := &process{name: name, make: make_, log: f, stop: make(chan struct{}), wake: make(chan struct{}, 1)}
	if _, err := p.begin(); err != nil {
		return nil, err
	}
	p.done.Go(p.supervise)
	return p, nil
}

func (p *process) begin() (begun bool, _ error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		return false, nil
	}
	p.lives++
	cmd := p.make(p.lives)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	fmt.Fprintf(p.log, "%s begins life %d\n", p.name, p.lives)
	if err := cmd.Start(); err != nil {
		return false, err
	}
	p.cmd, p.ended, p.hold = cmd, make(chan struct{}), restart
	return true, nil
}

func (p *process) supervise() {
	for {
		err := p.cmd.Wait() // only this goroutine replaces it
		p.mu.Lock()
		fmt.Fprintf(p.log, "%s ends life %d: %v\n", p.name, p.lives, err)
		close(p.ended)
		hold := p.hold
		p.mu.Unlock()
		if !p.next(hold) {
			return
		}
	}
}

// next begins the next life after a while, when it may; false if there is none.
func (p *process) next(pause time.Duration) bool {
	select {
	case <-time.After(pause):
	case <-p.stop:
	}
	for {
		begun, err := p.begin()
		if err != nil {
			fmt.Fprintln(p.log, "panic: not started:", err)
		}
		if begun || err != nil {
			return begun
		}
		select {
		case <-p.wake:
		case <-p.stop:
			return false
		}
	}
}

// end sends a signal that ends this life, waits until it has, and has the next one
// begin after a while.
func (p *process) end(sig syscall.Signal, pause time.Duration) {
	p.mu.Lock()
	p.hold = pause
	cmd, ended := p.cmd, p.ended
	p.mu.Unlock()
	cmd.Process.Signal(sig)
	select {
	case <-ended:
	case <-time.After(patience):
		cmd.Process.Kill()
		<-ended
	}
}

// signal is for those that do not end a process.
func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd.Process.Signal(sig) // one that has just ended does not mind
}

// freeze stops this life and returns when none of its threads runs: until SIGCONT it
// does nothing more.
func (p *process) freeze(t *testing.T) {
	t.Helper()
	p.signal(syscall.SIGSTOP)
	until(t, "stop of "+p.name, func(context.Context) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
		for _, path := range threads {
			stat, rerr := os.ReadFile(path)
			if !bytes.Contains(stat, []byte(") T ")) {
				err = errors.Join(err, rerr, fmt.Errorf("%s: %s", path, stat))
			}
		}
		return err
	})
}

// setDown ends this life and has no other begin.
func (p *process) setDown(sig syscall.Signal) {
	p.mu.Lock()
	p.down = true
	p.mu.Unlock()
	p.end(sig, 0)
}

// setUp has the next life begin after setDown.
func (p *process) setUp() {
	p.mu.Lock()
	p.down = false
	p.mu.Unlock()
	p.wake <- struct{}{}
}

// close ends the process for good.
func (p *process) close() {
	close(p.stop)
	p.setDown(syscall.SIGKILL)
	p.done.Wait()
	p.log.Close()
}
