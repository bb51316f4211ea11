package run

import (
	"os"
	"syscall"
	"testing"
)

// WithoutHardLinks makes the test's file system one that has none, as FAT.
func WithoutHardLinks(t *testing.T) {
	link = func(from, to string) error { return &os.LinkError{Op: "link", Old: from, New: to, Err: syscall.EPERM} }
	t.Cleanup(func() { link = os.Link })
}
