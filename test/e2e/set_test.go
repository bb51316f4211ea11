//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stepCRIU puts a criu in front of the machine's that waits each time that runc starts it,
// once hold is called, until step lets it go. step calls f while it waits, and is false if
// none waits now.
func stepCRIU(t *testing.T) (hold, release func(), step func(f func()) bool) {
	t.Helper()
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nif [ $1 = swrk ] && [ -e %[1]s/hold ]; then touch %[1]s/at.$$; while [ -e %[1]s/at.$$ ]; do sleep 0.02; done; fi\nexec %[2]s \"$@\"\n", dir, need(t, "criu"))
	if err := os.WriteFile(filepath.Join(dir, "criu"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv(before, dir)
	return func() {
			if err := os.WriteFile(filepath.Join(dir, "hold"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, func() { os.Remove(filepath.Join(dir, "hold")) }, func(f func()) bool {
			at, err := filepath.Glob(filepath.Join(dir, "at.*"))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range at {
				f()
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
			}
			return len(at) > 0
		}
}

// TestCheckpointSet checkpoints two containers as one: neither runs while CRIU is at either.
// The set is restored as a whole or not at all, the one before it too.
func TestCheckpointSet(t *testing.T) {
	hold, release, step := stepCRIU(t)
	d, registry, one := startCounting(t, 2, "overlayfs")
	two := d.start(t, "two", registry+"/base:1", "overlayfs", "", "--null-io")
	one.goesOn(t, 3)
	two.goesOn(t, 3)
	ref := registry + "/set:1"
	first := strings.TrimSpace(output(t, lithify(t), "checkpoint", "--set", "--containerd", d.address, "--insecure", one.id, two.id, ref))

	counted := func() (all string) {
		for _, c := range []*container{one, two} {
			b, err := os.ReadFile(filepath.Join(c.root(), "count"))
			if err != nil {
				t.Fatal(err)
			}
			all += string(b)
		}
		return all
	}
	hold()
	p := start(t, command(t, lithify(t), "checkpoint", "--set", "--split", "--containerd", d.address, "--insecure", one.id, two.id, ref))
	for steps, ended := 0, false; !ended; {
		select {
		case <-p.ended:
			if ended = true; p.err != nil || steps < 2 {
				t.Fatalf("%v after CRIU was started %d times: %s", p.err, steps, p.said())
			}
		case <-time.After(20 * time.Millisecond):
			if step(func() {
				was := counted()
				time.Sleep(200 * time.Millisecond) // four times what a number takes
				if now := counted(); now != was {
					t.Errorf("while CRIU was at one of them they counted from %q to %q", was, now)
				}
			}) {
				steps++
			}
		}
	}
	release()
	one.goesOn(t, one.count(t))
	two.goesOn(t, two.count(t))

	shown := output(t, lithify(t), "checkpoint", "show", "--insecure", ref)
	if lines := strings.Split(strings.TrimSpace(shown), "\n"); len(lines) != 5 || !strings.HasPrefix(lines[1], "2 ") || !strings.HasPrefix(lines[4], "1 ") ||
		!strings.Contains(lines[3], first[strings.Index(first, "@")+1:]) || !strings.Contains(lines[2], " "+two.id+" ") {
		t.Errorf("shown: %s\nwant the second set and then the first, %s", shown, first)
	}

	names := func(of string) []string { return []string{of + "-" + one.id, of + "-" + two.id} }
	for name, ref := range map[string]string{"now": ref, "then": first} {
		for _, id := range names(name) {
			d.restored(t, id)
		}
		if got := output(t, lithify(t), d.restoreArgs(ref, name)...); got != strings.Join(names(name), "\n")+"\n" {
			t.Errorf("restored: %q", got)
		}
		for _, id := range names(name) {
			c := &container{d, id, ""}
			c.goesOn(t, c.count(t))
		}
	}

	d.ctr("tasks", "rm", "--force", names("now")[0])
	d.ctr("containers", "rm", names("now")[0])
	if code, said := exit(t, lithify(t), d.restoreArgs(ref, "now")...); code != 1 || !strings.Contains(said, "container "+names("now")[1]) {
		t.Errorf("a name that is taken: exit code %d, %s", code, said)
	}
	if left := d.ctr("containers", "ls", "-q"); strings.Contains(left, names("now")[0]) || !strings.Contains(left, names("now")[1]) {
		t.Errorf("containers: %s, want none of the set that was not restored", left)
	}

	pool := startPool(t, 1)
	pool.worker(t, "node-1", "--containerd", d.address, "--node", "node-1", "--restore-from", "*", "--restore-root", d.restoreRoot())
	replicas := append(names("shop-1"), names("shop-2")...)
	for _, id := range replicas {
		d.restored(t, id)
	}
	got := pool.output(t, "submit", "rollout", "--wait", "--insecure", "--node", "node-1", "--replicas", "2", "--wave", "1", "--name", "shop", ref)
	if want := "node-1 " + strings.Join(replicas, "\nnode-1 ") + "\n"; got != want {
		t.Errorf("rolled out: %q, want %q", got, want)
	}
	for _, id := range replicas {
		c := &container{d, id, ""}
		c.goesOn(t, c.count(t))
	}
	cmd := pool.command(t, lithify(t), "submit", "restore", "--insecure", "--node", "node-1", "--name", "alone", ref)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "lithify submit rollout") {
		t.Errorf("a set as one job: %v, %s", err, out)
	}
}
