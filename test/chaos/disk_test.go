//go:build linux

package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lithify/lithify/test/chaos/history"
)

// disk is an ext4 of its own in a file: one whose power can fail, or that can be full.
type disk struct {
	t     *testing.T
	image string
	at    string // where it is mounted
}

// newDisk makes and mounts a disk of so many MiB.
func newDisk(t *testing.T, size int64) *disk {
	t.Helper()
	if !*rootFlag {
		t.Skip("mounts a disk of its own: run as root with -test.root")
	}
	dir, err := os.MkdirTemp("/var/tmp", "lithify-chaos-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &disk{t: t, image: filepath.Join(dir, "image"), at: filepath.Join(dir, "at")}
	if err := errors.Join(os.Mkdir(d.at, 0o755), os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, size<<20)); err != nil {
		t.Fatal(err)
	}
	d.run("mkfs.ext4", "-q", "-F", "-m", "0", d.image)
	d.mount()
	t.Cleanup(d.unmount)
	return d
}

func (d *disk) run(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s %s: %v: %s", name, args, err, out)
	}
}

func (d *disk) mount() {
	d.t.Helper()
	d.run("mount", "-o", "loop", d.image, d.at)
}

func (d *disk) unmount() {
	d.t.Helper()
	if err := unix.Unmount(d.at, 0); err != nil {
		d.t.Errorf("unmount %s: %v", d.at, err)
	}
}

// copied is a copy of the image as the disk is at one moment: all that was written to
// it, and nothing of what the file system has in memory alone. A loop device writes
// through the page cache of its file, from which the copy is read.
func (d *disk) copied() (string, error) {
	d.t.Helper()
	to, before := d.image+".copy", d.traffic()
	d.run("cp", "--sparse=always", d.image, to)
	if before == "" || d.traffic() != before {
		return "", errors.New("the disk was written to meanwhile") // a mixture that no disk ever was
	}
	return to, nil
}

// traffic is what went to the device so far; empty while something is on its way.
func (d *disk) traffic() string {
	d.t.Helper()
	var st unix.Stat_t
	err := unix.Stat(d.at, &st)
	var raw []byte
	if err == nil {
		raw, err = os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(st.Dev), unix.Minor(st.Dev)))
	}
	if err != nil {
		d.t.Fatal(err)
	}
	const inFlight = 8 // in Documentation/block/stat.rst
	if f := strings.Fields(string(raw)); len(f) <= inFlight || f[inFlight] != "0" {
		return ""
	}
	return string(raw)
}

// cutPower has the power of the machine fail that the server runs on, alone with disk d,
// and come back. The server is frozen first: what it acknowledged, it had acknowledged
// before the disk was copied.
func (w *world) cutPower(d *disk) {
	w.t.Helper()
	f := history.Fault{Kind: history.PowerCut, Victim: history.Server, From: time.Now()}
	w.server.freeze(w.t)
	var image string
	w.until("moment without a write", func(context.Context) (err error) { image, err = d.copied(); return err })
	w.server.setDown(syscall.SIGKILL)
	d.unmount()
	if err := os.Rename(image, d.image); err != nil {
		w.t.Fatal(err)
	}
	d.mount()
	w.server.setUp()
	f.Until = time.Now()
	w.log.fault(f)
}

// fill leaves no room on the disk, until free.
func (d *disk) fill() {
	d.t.Helper()
	f, err := os.Create(d.ballast())
	for mib := make([]byte, 1<<20); err == nil; {
		_, err = f.Write(mib)
	}
	if !errors.Is(err, unix.ENOSPC) {
		d.t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		d.t.Fatal(err)
	}
}

func (d *disk) free() {
	d.t.Helper()
	if err := os.Remove(d.ballast()); err != nil {
		d.t.Fatal(err)
	}
}

func (d *disk) ballast() string { return filepath.Join(d.at, "ballast") }
