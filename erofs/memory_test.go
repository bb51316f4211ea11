package erofs_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/erofs/erofstest"
)

// allocated is what f allocates, in bytes.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// liveAfter is the memory in use when all entries have been read.
func liveAfter(t *testing.T, opts erofs.Options, n int, entry func(i int) []byte) (live int64, err error) {
	t.Helper()
	r, w := io.Pipe()
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer w.Close()
		for i := range n {
			if _, err := w.Write(entry(i)); err != nil {
				return // Convert has ended
			}
		}
		live = heap() - before
	})
	_, _, err = convert(t, r, opts)
	r.Close()
	wg.Wait()
	return live, err
}

// What is kept of an entry must not keep its header.
func TestHeadersAreNotHeld(t *testing.T) {
	const n = 50
	junk := strings.Repeat("x", 1<<20-1000)
	for name, entry := range map[string]func(i int) []byte{
		"xattr": func(i int) []byte {
			return append(paxHeader('x', "comment", junk, "SCHILY.xattr.user.a", "1"), rawEntry('0', fmt.Sprint("f", i), "", nil)...)
		},
		"empty xattr": func(i int) []byte {
			return append(paxHeader('x', "comment", junk, "SCHILY.xattr.user.a", ""), rawEntry('0', fmt.Sprint("f", i), "", nil)...)
		},
		"symlink": func(i int) []byte {
			return append(paxHeader('x', "comment", junk, "linkpath", "to"), rawEntry('2', fmt.Sprint("l", i), "", nil)...)
		},
		"lower link": func(i int) []byte {
			return append(paxHeader('x', "comment", junk, "linkpath", fmt.Sprint("to", i)), rawEntry('1', fmt.Sprint("l", i), "", nil)...)
		},
		"name": func(i int) []byte {
			return append(paxHeader('x', "comment", junk, "path", fmt.Sprint("a/b", i)), rawEntry('0', "x", "", nil)...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			live, err := liveAfter(t, erofs.Options{Serial: true, Limits: erofs.Limits{MetaBytes: 64 << 10}}, n, entry)
			if unresolved := (*erofs.UnresolvedError)(nil); err != nil && !errors.As(err, &unresolved) {
				t.Fatal(err)
			}
			if live > 20<<20 {
				t.Errorf("%d entries with headers of 1 MiB each: %d MiB are live", n, live>>20)
			}
		})
	}
}

// deepDir is a path of 4,000 bytes.
var deepDir = strings.Repeat(strings.Repeat("d", 249)+"/", 16)

// A layer of deep directories must not become a list of as many long paths.
func TestPathsAreNotHeld(t *testing.T) {
	const n = 3000
	var src []byte
	for i := range n {
		src = append(src, paxHeader('x', "path", fmt.Sprintf("%s%d/", deepDir, i))...)
		src = append(src, rawEntry('5', "x", "", nil)...)
	}
	src = rawTar(src)
	var read, end runtime.MemStats
	mustConvert(t, src, erofs.Options{Serial: true, Progress: func(n int64) {
		if n == int64(len(src)) {
			runtime.ReadMemStats(&read)
		}
	}})
	runtime.ReadMemStats(&end)
	if more := end.TotalAlloc - read.TotalAlloc; more > n*1500 {
		t.Errorf("writing the metadata of %d directories allocates %d bytes", n, more)
	}
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

// Linux has no place for these, and containerd goes on without them.
func TestForeignXattrs(t *testing.T) {
	foreign := []string{"com.apple.quarantine", "1", "system.nfs4_acl", "2", "system.posix_acl_accessible", "3", "lustre.lov", "", "big", strings.Repeat("x", 70000)}
	src := makeTar(t,
		file("f", "").xattr(append(foreign, "user.kept", "1", "system.posix_acl_access", "2")...),
		dir("d", 0o755).xattr(foreign...), file(".wh.gone", "").xattr(foreign...),
	)
	checkImage(t, src, erofs.Options{})
	f, _ := mustConvert(t, src, erofs.Options{})
	tree, err := erofstest.FromImage(f)
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(tree["f"].Xattrs)); !slices.Equal(got, []string{"system.posix_acl_access", "user.kept"}) || tree["d"].Xattrs != nil {
		t.Errorf("f has %q, d %q", got, tree["d"].Xattrs)
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
