//go:build linux

package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lithify/lithify/jobs"
)

// TestCheckpointLimit has the deadlines of checkpoints pass at each stage of runc's and CRIU's
// work: the container goes on each time, and the next checkpoint of it is as good as any.
func TestCheckpointLimit(t *testing.T) {
	if testing.Short() {
		t.Skip("makes dozens of checkpoints: long lane")
	}
	hold, at, release := holdCRIU(t)
	d, registry, c := startThat(t, 2, "overlayfs", "m=$(head -c 30000000 /dev/urandom | base64 -w0)\n"+counts)
	c.goesOn(t, 3)
	p := startPool(t, 0)
	_, temp := p.worker(t, "node-1", "--containerd", d.address, "--node", "node-1")
	p.lists(t, "node-1")
	checkpoint := func(ms int) *exec.Cmd {
		return p.command(t, lithify(t), "submit", "checkpoint", "--wait", "--insecure", "--node", "node-1", "--timeout", fmt.Sprint(ms, "ms"), c.id, registry+"/saved:1")
	}

	// CRIU has been started and not begun.
	hold()
	submitted := start(t, checkpoint(3000))
	at()
	await(t, "the dump to be broken off", func(context.Context) error {
		dirs, err := filepath.Glob(filepath.Join(temp, "lithify-checkpoint-*/checkpoint"))
		if err != nil || len(dirs) > 0 {
			return fmt.Errorf("%v, %v", dirs, err)
		}
		return nil
	})
	release()
	if <-submitted.ended; submitted.err == nil {
		t.Fatal("a checkpoint was made after its deadline")
	}
	c.goesOn(t, c.count(t))

	broken := 0
	for ms := 100; ; ms += ms / 6 {
		out, err := checkpoint(ms).CombinedOutput()
		c.goesOn(t, c.count(t))
		if err == nil {
			break
		}
		if broken++; !strings.Contains(string(out), "deadline") || ms > 60_000 {
			t.Fatalf("within %d ms: %v\n%s", ms, err, out)
		}
	}
	if broken < 5 {
		t.Errorf("%d checkpoints came to their deadlines: the steps are too large", broken)
	}
	if left, err := filepath.Glob(filepath.Join(temp, "lithify-checkpoint-*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	two := d.restored(t, "limit-two")
	output(t, lithify(t), d.restoreArgs(registry+"/saved:1", two.id)...)
	two.goesOn(t, two.count(t))
}

// TestCommitLimit has a commit's deadline pass when runc has frozen the container and has not
// said so. The shim would kill runc at a deadline of which it knows, believe that the container
// runs, and refuse to resume it.
func TestCommitLimit(t *testing.T) {
	dir := t.TempDir()
	held, here := filepath.Join(dir, "held"), filepath.Join(dir, "here")
	script := fmt.Sprintf("#!/bin/sh\n%[3]s \"$@\" || exit\ncase \"$* \" in *' pause '*) touch %[2]s; while [ -e %[1]s ]; do sleep 0.02; done;; esac\n", held, here, need(t, "runc"))
	if err := os.WriteFile(filepath.Join(dir, "runc"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv(before, dir)
	d, registry, c := startThat(t, 1, "overlayfs", counts)
	c.goesOn(t, 3)
	p := startPool(t, 0)
	p.worker(t, "node-1", "--containerd", d.address, "--node", "node-1")
	p.lists(t, "node-1")
	if err := os.WriteFile(held, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(p.output(t, "submit", "commit", "--insecure", "--node", "node-1", "--timeout", "3s", c.id, registry+"/new:1"))
	await(t, "the pause", func(context.Context) error { _, err := os.Stat(here); return err })
	deadline := p.job(t, id).Deadline
	select {
	case <-time.After(time.Until(deadline) + time.Second): // nobody would tell of it but by what is not to happen
	case <-t.Context().Done():
	}
	if got := c.status(t); got == "RUNNING" {
		t.Errorf("the shim says that it is %s while runc is at it", got)
	}
	if err := os.Remove(held); err != nil {
		t.Fatal(err)
	}
	c.goesOn(t, c.count(t))
	await(t, "the job's end", func(context.Context) error {
		if st := p.job(t, id); st.State != jobs.Failed || st.Failure.Kind != jobs.KindDeadlineExceeded {
			return fmt.Errorf("it is %s: %v", st.State, st.Failure)
		}
		return nil
	})
	if code, said := exit(t, lithify(t), "commit", "--containerd", d.address, "--insecure", c.id, registry+"/new:1"); code != 0 {
		t.Errorf("the next commit: exit code %d, %s", code, said)
	}
	c.goesOn(t, c.count(t))
}
