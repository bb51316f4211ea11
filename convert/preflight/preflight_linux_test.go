package preflight_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/convert/preflight"
)

var rootFlag = flag.Bool("test.root", false, "run the tests that mount, as root")

func check(t *testing.T, o preflight.Options) map[string]preflight.Fact {
	t.Helper()
	facts := map[string]preflight.Fact{}
	for _, f := range preflight.Check(t.Context(), o) {
		facts[f.Name] = f
	}
	return facts
}

// TestAgrees compares what was tried with what the kernel says of itself.
func TestAgrees(t *testing.T) {
	if !*rootFlag || os.Getuid() != 0 {
		t.Skip("mounts images: run as root with -test.root")
	}
	dir := t.TempDir()
	facts := check(t, preflight.Options{Dir: dir})
	for name, f := range facts {
		t.Logf("%s: %v, %s", name, f.OK, f.Found)
	}
	filesystems, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		t.Fatal(err)
	}
	for fact, name := range map[string]string{"erofs": "erofs", "overlayfs": "overlay"} {
		if has := strings.Contains(string(filesystems), "\t"+name+"\n"); has != facts[fact].OK {
			t.Errorf("%s is %+v, the kernel has it: %v", fact, facts[fact], has)
		}
	}
	for fact, option := range map[string]string{"erofs-file": "CONFIG_EROFS_FS_BACKED_BY_FILE", "fs-verity": "CONFIG_FS_VERITY", "dm-verity": "CONFIG_DM_VERITY"} {
		has, err := kernelHas(option)
		if errors.Is(err, os.ErrNotExist) {
			t.Logf("this kernel does not say %s", option)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if f := facts[fact]; f.OK && !has {
			t.Errorf("%s is ok, and the kernel has no %s", fact, option)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil || strings.Contains(string(mounts), dir) {
		t.Errorf("still mounted: %v\n%s", err, mounts)
	}
}

// kernelHas reads the configuration of the kernel, where it shows it.
func kernelHas(option string) (bool, error) {
	f, err := os.Open("/proc/config.gz")
	if err != nil {
		return false, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return false, err
	}
	s := bufio.NewScanner(z)
	for s.Scan() {
		if s.Text() == option+"=y" || s.Text() == option+"=m" {
			return true, nil
		}
	}
	return false, s.Err()
}

// TestOnTmpfs: no kernel mounts a file of a tmpfs, and a loop device does.
func TestOnTmpfs(t *testing.T) {
	if !*rootFlag || os.Getuid() != 0 {
		t.Skip("mounts images: run as root with -test.root")
	}
	dir, err := os.MkdirTemp("/dev/shm", "lithify")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	facts := check(t, preflight.Options{Dir: dir})
	if facts["erofs-file"].OK || facts["fs-verity"].OK {
		t.Errorf("tmpfs: %+v", facts)
	}
	if how, err := preflight.EROFS(t.Context(), dir); err != nil || how != facts["erofs-loop"].Found || !facts["erofs"].OK {
		t.Errorf("EROFS on tmpfs: %q, %v; %+v", how, err, facts)
	}
}

// TestPrograms puts programs of a certain kind into PATH.
func TestPrograms(t *testing.T) {
	real := os.Getenv("PATH")
	for name, c := range map[string]struct {
		fact, script, want string
	}{
		"old mkfs":     {"mkfs.erofs", "echo mkfs.erofs 1.5", "version 1.5 is too old"},
		"other mkfs":   {"mkfs.erofs", "cat > /dev/null; echo no version", "no such file"},
		"mkfs no tar":  {"mkfs.erofs", "[ $1 = --version ] && echo mkfs.erofs 1.9 && exit; cat > /dev/null; exit 1", "mkfs.erofs --tar=f: exit status 1"},
		"mkfs rubbish": {"mkfs.erofs", "[ $1 = --version ] && echo mkfs.erofs 1.9 && exit; cat > /dev/null; for a; do :; done; echo rubbish > $a", "EOF"},
		"old criu":     {"criu", "echo Version: 3.15", "version 3.15 is too old"},
		"criu ill":     {"criu", "[ $1 = --version ] && echo Version: 4.1 && exit; echo no kernel; exit 1", "criu check: exit status 1: no kernel"},
		"no runc":      {"runc", "", "executable file not found"},
	} {
		t.Run(name, func(t *testing.T) {
			bin := t.TempDir()
			if c.script != "" {
				if err := os.WriteFile(filepath.Join(bin, c.fact), fmt.Appendf(nil, "#!/bin/sh\n%s\n", c.script), 0o700); err != nil {
					t.Fatal(err)
				}
				bin += ":" + real
			}
			t.Setenv("PATH", bin)
			f := check(t, preflight.Options{Dir: t.TempDir()})[c.fact]
			if f.OK || !strings.Contains(f.Found, c.want) || f.Do == "" {
				t.Errorf("got %+v, want that it is missing: %s", f, c.want)
			}
		})
	}
}

func TestReady(t *testing.T) {
	if !slices.Equal(preflight.Verbs(), []string{"build", "checkpoint", "commit", "convert", "restore", "verify"}) {
		t.Errorf("verbs are %q", preflight.Verbs())
	}
	facts := preflight.Check(t.Context(), preflight.Options{Dir: t.TempDir()})
	if err := preflight.Ready(facts, "convert"); err != nil {
		t.Error(err)
	}
	none := filepath.Join(t.TempDir(), "none")
	facts = preflight.Check(t.Context(), preflight.Options{Dir: none, Containerd: none})
	for _, verb := range []string{"convert", "commit"} {
		if err := preflight.Ready(facts, verb); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "temp") {
			t.Errorf("%s without a directory: got %v", verb, err)
		}
	}
	missing := preflight.Names(facts, false)
	if !slices.Contains(missing, "containerd") || slices.Contains(missing, "containerd-plugins") {
		t.Errorf("missing are %q, want containerd and none of what it would say of itself", missing)
	}
}

// TestEnds: a program that hangs costs no more than its time.
func TestEnds(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "runc"), []byte("#!/bin/sh\nexec sleep 3600\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, f := range preflight.Check(ctx, preflight.Options{Dir: t.TempDir()}) {
		if f.Name == "runc" && f.OK {
			t.Errorf("a runc that hangs is %+v", f)
		}
	}
}
