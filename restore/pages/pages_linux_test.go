package pages_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/lithify/lithify/restore/archive"
	"github.com/lithify/lithify/restore/pages"
)

// TestAgain dumps a process with 48 MiB of memory twice, with the real CRIU. Of the second
// dump little has to be sent to the registry, and little comes back where the first is.
func TestAgain(t *testing.T) {
	first, second := dumpTwice(t)
	blobs := store{}
	one := split(t, first, nil, blobs)
	sent := blobs.size()
	two := split(t, second, one, blobs)
	more := blobs.size() - sent
	t.Logf("%d MiB of memory, first %d KiB, second %d KiB", one.Size()>>20, sent>>10, more>>10)
	if more*20 > sent {
		t.Errorf("of the second dump %d bytes were new, of the first %d", more, sent)
	}
	if one.Size() < 40<<20 || sent > 36<<20 {
		t.Errorf("%d bytes of memory made %d of packs", one.Size(), sent)
	}
	alone := joined(t, second, two, blobs)
	if alone.Fetched < 30<<20 || alone.Local != 0 {
		t.Errorf("where nothing is: %+v", alone)
	}
	near := joined(t, second, two, blobs, first)
	if near.Fetched*20 > alone.Fetched || near.Local < 30<<20 {
		t.Errorf("where the first is: %+v", near)
	}
	t.Logf("alone %+v, near %+v", *alone, *near)
}

// dumpTwice gives two directories as package archive makes them.
func dumpTwice(t *testing.T) (first, second string) {
	t.Helper()
	criu, err := exec.LookPath("criu")
	if err != nil || os.Getuid() != 0 || testing.Short() {
		t.Skip("dumps a process twice: needs root and criu (test/tools/install.sh), and not -short")
	}
	program := filepath.Join(t.TempDir(), "memory")
	build := exec.Command("go", "build", "-o", program, "./testdata/memory")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	cmd := exec.Command(program)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stdin, cmd.Stderr = null, null
	ready, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if _, err := ready.Read(make([]byte, 1)); err == nil {
		t.Fatal("the process to dump wrote something")
	}
	for _, dir := range []*string{&first, &second} {
		*dir = t.TempDir()
		images := filepath.Join(*dir, archive.ImagesDir)
		if err := os.Mkdir(images, 0o700); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(criu, "dump", "-t", strconv.Itoa(cmd.Process.Pid), "-D", images, "-o", "dump.log", "-v2", "--leave-running").CombinedOutput()
		if err != nil {
			log, _ := os.ReadFile(filepath.Join(images, "dump.log"))
			t.Fatalf("criu dump: %v\n%s%s", err, out, log)
		}
	}
	return first, second
}

func split(t *testing.T, dir string, previous *pages.Index, blobs store) *pages.Index {
	t.Helper()
	x, err := pages.Split(t.Context(), dir, previous, blobs.create)
	if err != nil {
		t.Fatal(err)
	}
	blobs.name()
	if err := x.Save(dir); err != nil {
		t.Fatal(err)
	}
	return x
}

// joined makes the pages of a dump anew, and compares them with the dump's.
func joined(t *testing.T, source string, x *pages.Index, blobs store, local ...string) *pages.Moved {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, archive.ImagesDir), 0o700); err != nil {
		t.Fatal(err)
	}
	moved, err := x.Join(t.Context(), dir, blobs, local...)
	if err != nil {
		t.Fatal(err)
	}
	checkSame(t, source, dir, x)
	return moved
}
