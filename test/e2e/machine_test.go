//go:build linux

package e2e_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// needs386 skips where the processor's 32 bits cannot be used, as under some hypervisors, whatever
// the kernel says: BuildKit offers linux/386 on an amd64 only where that runs.
func needs386(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "exit")
	if err := os.WriteFile(file, exit386(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(file).Run(); err != nil {
		t.Skipf("this machine runs no programs of linux/386: %v", err)
	}
}

// exit386 is an ELF program that exits with 0.
func exit386() []byte {
	const base, head = 0x08048000, 52 + 32
	code := []byte{0xb8, 1, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80} // mov eax, 1; xor ebx, ebx; int 0x80
	var b bytes.Buffer
	b.WriteString("\x7fELF\x01\x01\x01")
	b.Write(make([]byte, 9))
	le := binary.LittleEndian
	for _, v := range []any{
		[]uint16{2, 3}, []uint32{1, base + head, 52, 0, 0}, []uint16{52, 32, 1, 0, 0, 0},
		[]uint32{1, 0, base, base, uint32(head + len(code)), uint32(head + len(code)), 5, 0x1000},
	} {
		_ = binary.Write(&b, le, v) // a buffer takes all
	}
	b.Write(code)
	return b.Bytes()
}
