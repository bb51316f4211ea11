package restore

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// holdPID takes hold of a process that runs.
func holdPID(t *testing.T, pid int) *held {
	t.Helper()
	proc, err := os.Open(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proc.Close() })
	return &held{proc}
}

func mine(name, content string) []file {
	return []file{{name[1:], 0o640, os.Getuid(), os.Getgid(), []byte(content)}}
}

// What a container has where its identity is to be written is not opened: here a pipe that
// nobody reads, and a link.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "precious")
	if err := os.WriteFile(precious, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, place := range map[string]func(file string) error{
		"nothing": func(string) error { return nil },
		"pipe":    func(file string) error { return syscall.Mkfifo(file, 0o600) },
		"link":    func(file string) error { return os.Symlink("../precious", file) },
		"file":    func(file string) error { return os.WriteFile(file, []byte("of an earlier restore"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(dir, name, "clone")
			if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := place(file); err != nil {
				t.Fatal(err)
			}
			if err := holdPID(t, os.Getpid()).write(mine(file, "me")); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(file); err != nil || string(got) != "me" {
				t.Errorf("got %q, %v, want me", got, err)
			}
			if info, err := os.Lstat(file); err != nil || info.Mode() != 0o640 {
				t.Errorf("it is %v, %v, want the mode that was asked for", info.Mode(), err)
			}
			if names, err := os.ReadDir(filepath.Dir(file)); err != nil || len(names) != 1 {
				t.Errorf("beside it: %v, %v", names, err)
			}
		})
	}
	if got, err := os.ReadFile(precious); err != nil || string(got) != "precious" {
		t.Errorf("what the link leads to: %q, %v", got, err)
	}
}

// A process that has got the number of one that is gone is not taken for it: neither does it
// get the other's files nor its hostname.
func TestHeldIsGone(t *testing.T) {
	sleep := func() *exec.Cmd {
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	end := func(cmd *exec.Cmd) {
		cmd.Process.Kill()
		cmd.Wait()
	}
	first := sleep()
	pid := first.Process.Pid
	p := holdPID(t, pid)
	if _, _, err := p.owner(); err != nil {
		t.Fatal(err)
	}
	end(first)
	other := first
	for range 100 { // the machine may be quicker to use the number
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", fmt.Append(nil, pid-1), 0o600); err != nil {
			t.Skipf("cannot have a number used again: %v", err)
		}
		if other = sleep(); other.Process.Pid == pid {
			break
		}
		end(other)
	}
	if other.Process.Pid != pid {
		t.Skip("the number was not used again: something else has it")
	}
	defer end(other)
	if _, _, err := holdPID(t, pid).owner(); err != nil { // the new one is there
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "clone")
	hostname, err := os.Hostname() // what this machine has already
	if err != nil {
		t.Fatal(err)
	}
	_, _, oerr := p.owner()
	for what, err := range map[string]error{"owner": oerr, "write": p.write(mine(file, "me")), "rename": rename(p, hostname)} {
		if !errors.Is(err, syscall.ESRCH) && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s of a process that is gone: got %v, want that it is not there", what, err)
		}
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the file was written into the root of another process")
	}
}

// Who reads a secret bounds it, and does not wait for what is no file.
func TestReadSecret(t *testing.T) {
	dir := t.TempDir()
	pipe, large := filepath.Join(dir, "pipe"), filepath.Join(dir, "large")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.WriteFile(large, make([]byte, maxSecret+1), 0o600)); err != nil {
		t.Fatal(err)
	}
	for want, file := range map[string]string{"no file": pipe, "more than": large, "no such file": filepath.Join(dir, "none")} {
		if _, err := readSecrets([]Secret{{"token", file}}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "token") {
			t.Errorf("%s: got %v, want an error with its ID and %q", file, err, want)
		}
	}
}
