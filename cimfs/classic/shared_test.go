package classic_test

import (
	"fmt"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/cimfs/classic"
	"github.com/lithify/lithify/cimfs/classictest"
)

// TestSharedStreams has one table of streams for many files, each of which would be read for each:
// a CIM of some KiB would take hours.
func TestSharedStreams(t *testing.T) {
	const streamsOffset = 80 // in a file
	var table [8]byte
	first := &classictest.File{Streams: map[string][]byte{}, PatchFile: func(f []byte) { copy(table[:], f[streamsOffset:]) }}
	for i := range 300 {
		first.Streams[fmt.Sprint("stream", i)] = []byte("x")
	}
	files := map[string]*classictest.File{"0": first}
	for i := range 2000 {
		files[fmt.Sprint("file", i)] = &classictest.File{PatchFile: func(f []byte) { copy(f[streamsOffset:], table[:]) }}
	}
	c, err := classic.OpenFS(classictest.Image{Root: classictest.Dir(files)}.FS(), classictest.Name)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := c.Verify(t.Context()); !errdefs.IsInvalidArgument(err) {
		t.Errorf("%+v, error %v, want that it is damaged", s, err)
	}
	for range 3 { // a file that is looked at again is none more
		if _, err := c.Stat("0"); err != nil {
			t.Error(err)
		}
	}
}
