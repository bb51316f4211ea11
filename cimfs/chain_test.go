package cimfs_test

import (
	"io"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/cimfs"
)

// TestNoLibrary has nothing read of a layer that cannot be written here: it may be large, and far
// away. test/wine has a library.
func TestNoLibrary(t *testing.T) {
	if _, err := cimfs.Library(); err == nil {
		t.Skip("there is a library")
	}
	r := &counting{}
	_, err := cimfs.NewChain(t.TempDir()).Import(t.Context(), r)
	if !errdefs.IsNotImplemented(err) && !errdefs.IsFailedPrecondition(err) {
		t.Errorf("error %v, want one that says that there is no library", err)
	}
	if r.reads > 0 {
		t.Errorf("the layer was read: %d times", r.reads)
	}
}

type counting struct{ reads int }

func (c *counting) Read([]byte) (int, error) {
	c.reads++
	return 0, io.EOF
}
