package wine_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lithify/lithify/test/wine"
	"github.com/lithify/lithify/test/wine/winlayer"
)

// A call fails where a test says so, and its caller hears of it.
func testFail(t *testing.T, p *wine.Prefix) {
	for fault, want := range map[string]struct{ err, call string }{
		"CimCreateImage2:1=0x80070005":        {"Access denied", `CimCreateImage2 block=\0\layer.vhd`},
		"CimCreateFile:3=0x80070070":          {"Disk full", `CimCreateFile path=Files\Windows\System32`},
		"CimWriteStream:7=0x80070070":         {"Disk full", `CimWriteStream path=Files\Windows\System32\kernel32.dll`},
		"CimCommitImage:1=0x80070070":         {"Disk full", `CimCommitImage block=\0\layer.vhd`},
		"CimSealImage:2=0x8007045d":           {"I/O", `CimSealImage block=\1\layer.vhd`},
		"ORMergeHives:1=0x80070008":           {"memory", "ORMergeHives"},
		"CimAddFsToMergedImage2:2=0x80070017": {"CRC", `CimAddFsToMergedImage2 path=\0\layer.vhd\layer.cim`},
	} {
		t.Run(fault, func(t *testing.T) {
			r := importedWith(t, p, []string{"CIMEMU_FAIL=" + fault}, nil, winlayer.Base(), winlayer.Child())
			if r.err == nil || !strings.Contains(r.err.Error(), want.err) {
				t.Errorf("got %v, want %s", r.err, want.err)
			}
			var failed []string
			for call := range strings.Lines(r.calls) {
				if strings.Contains(call, " hr=") {
					failed = append(failed, call)
				}
			}
			if len(failed) == 0 || !strings.HasPrefix(failed[0], want.call) {
				t.Errorf("failed: %q, want %s", failed, want.call)
			}
		})
	}
}

// A process is killed within a call, and leaves what it had written.
func testHang(t *testing.T, p *wine.Prefix) {
	dir := t.TempDir()
	tar, hung := filepath.Join(dir, "base.tar"), filepath.Join(dir, "hung")
	if err := os.WriteFile(tar, winlayer.Base(), 0o644); err != nil {
		t.Fatal(err)
	}
	env := []string{"CIMEMU_HANG=CimWriteStream:7", "CIMEMU_HUNG=" + wine.Path(hung)}
	cmd := p.Command(t.Context(), p.Program(t, "importer", importer), env, wine.Path(dir), wine.Path(tar))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, err := os.Stat(hung); err != nil; _, err = os.Stat(hung) {
		time.Sleep(10 * time.Millisecond)
		if t.Context().Err() != nil {
			t.Fatal(t.Context().Err())
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("it ended by itself")
	}
	block := read(t, dir, "0/layer.vhd")
	if state := block[8]; !bytes.HasPrefix(block, []byte("EMUCIM1 ")) || state != 0 {
		t.Errorf("the block begins %q", block[:16])
	}
}
