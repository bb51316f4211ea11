package natsd

import (
	"fmt"
	"io/fs"
	"log/slog"
	"runtime"
	"syscall"
	"testing"
)

// The server's error line of a write for which the disk had no room is understood as
// this system says it.
func TestFullDiskIsRecognised(t *testing.T) {
	noRoom, other := []syscall.Errno{syscall.ENOSPC}, syscall.EACCES
	if runtime.GOOS == "windows" {
		noRoom, other = []syscall.Errno{39, 112}, 5 // ERROR_HANDLE_DISK_FULL, ERROR_DISK_FULL; ERROR_ACCESS_DENIED
	}
	full := make(chan struct{}, 1)
	l := serverLog{slog.New(slog.DiscardHandler), full}
	says := func(errno syscall.Errno) bool {
		l.Errorf("write: %v", fmt.Errorf("store: %w", &fs.PathError{Op: "write", Path: "1.blk", Err: errno}))
		return len(full) > 0
	}
	if says(other) {
		t.Errorf("%v is taken for a full disk", other)
	}
	for _, errno := range noRoom {
		if !says(errno) {
			t.Errorf("%v is not taken for a full disk", errno)
		}
		for len(full) > 0 {
			<-full
		}
	}
}
