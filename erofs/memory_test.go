package erofs_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/lithify/lithify/erofs"
)

// allocated is what f allocates, in bytes.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A tar may name one directory as often as it likes.
func TestDirectoryNamedOften(t *testing.T) {
	var names []string
	for i := range 25000 {
		names = append(names, fmt.Sprintf("SCHILY.xattr.user.%d", i), "")
	}
	src := append(paxHeader('x', names...), rawEntry('5', "d", "", nil)...)
	once := allocated(func() { mustConvert(t, src, erofs.Options{Serial: true}) })
	for i := range 500 {
		src = append(src, rawEntry('5', "d", "", nil)...)
		src = append(src, paxHeader('x', "SCHILY.xattr.user.7", fmt.Sprint(i))...)
		src = append(src, rawEntry('5', "d", "", nil)...)
	}
	often := allocated(func() { mustConvert(t, src, erofs.Options{Serial: true}) })
	if more := int64(often - once); more > 16<<20 {
		t.Errorf("1000 more headers of a directory allocate %d MiB more", more>>20)
	}
}

// Attributes of several headers meet in one list, as long as EROFS can hold them
// and the opaque mark.
func TestXattrsOfSeveralHeaders(t *testing.T) {
	entries := []entry{dir("full", 0o755).xattr(append(largeXattrs("a", 4), "user.rest", strings.Repeat("x", 22076))...), file("full/.wh..wh..opq", "")}
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 60 {
		var kv []string
		for range r.IntN(12) {
			space := []string{"user.", "trusted.", "security."}[r.IntN(3)]
			kv = append(kv, space+fmt.Sprint(r.IntN(60)), strings.Repeat("v", r.IntN(9))+fmt.Sprint(i))
		}
		entries = append(entries, dir("d", 0o755).xattr(kv...))
	}
	checkImage(t, makeTar(t, entries...), erofs.Options{})
}
