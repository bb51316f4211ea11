package winlayer

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"time"
)

// Random is a layer that hcsshim v0.15.0 imports, the same for the same seed: without
// parents, or to lie on a Random base of any seed. It has what Base and Child have, more
// of it, and odder.
func Random(seed uint64, isBase bool) []byte {
	var long [32]byte
	binary.LittleEndian.PutUint64(long[:], seed)
	source := rand.NewChaCha8(long)
	r := &random{Rand: rand.New(source), source: source, Layer: New(), dirs: []string{"Files"}}
	if isBase {
		base(r.Layer)
		r.Dir("Files/shared")
		for i := range sharedFiles {
			r.file(shared(i))
		}
	} else {
		r.Dir("Files")
	}
	for range 10 + r.IntN(60) {
		r.entry(isBase)
	}
	if !isBase {
		r.below()
	}
	return r.Bytes()
}

// sharedFiles are how many files a child may count on in each Random base.
const sharedFiles = 12

func shared(i int) string { return fmt.Sprintf("Files/shared/Shared %d.bin", i) }

type random struct {
	*rand.Rand
	source *rand.ChaCha8
	*Layer
	dirs, files []string
	names       int
}

// entry adds one of those that need no layer below.
func (r *random) entry(isBase bool) {
	name := r.name()
	switch r.IntN(12) {
	case 0, 1, 2:
		r.dir(name)
	case 3:
		r.Symlink(name, pick(r, targets), r.options(pick(r, []uint32{Reparse, Directory | Reparse}))...)
	case 4:
		r.MountPoint(name, pick(r, targets), r.options(Directory|Reparse)...)
	case 5, 6:
		if len(r.files) > 0 {
			r.Link(name, pick(r, r.files))
			r.files = append(r.files, name)
		}
	case 7:
		// The target comes after its link.
		later := r.name()
		r.Link(name, later)
		r.file(later)
	default:
		r.file(name)
	}
}

func (r *random) dir(name string) {
	slash := pick(r, []string{"", "/"})
	r.Dir(name+slash, r.options(Directory|pick(r, []uint32{0, Hidden, ReadOnly | System}))...)
	r.dirs = append(r.dirs, name)
}

func (r *random) file(name string) {
	content := make([]byte, pick(r, []int{0, 1, 12, 4095, 4096, 4097, 9000}))
	r.source.Read(content) // it has no error
	attributes := pick(r, []uint32{Archive, Normal, Archive | Hidden, ReadOnly | System, Archive | Sparse, Archive | Reparse})
	r.File(name, content, r.options(attributes)...)
	r.files = append(r.files, name)
}

// below adds what there is only on other layers: links to their files, in the spelling
// of the file and in another, removed names, and changes of the hives.
func (r *random) below() {
	r.Dir(path.Dir(shared(0)))
	for i := range sharedFiles {
		name := shared(i)
		switch r.IntN(5) {
		case 0:
			r.Link(r.name(), name)
		case 1:
			r.Link(r.name(), strings.ToUpper(name))
		case 2:
			r.Remove(name)
		}
	}
	r.Dir("Hives")
	for _, h := range hives {
		if r.IntN(3) > 0 {
			r.File("Hives/"+h.delta, Hive(fmt.Sprint(h.delta, r.Uint64())))
		}
	}
}

// name is a new one in a directory of the layer. No two differ in case only.
func (r *random) name() string {
	r.names++
	base := pick(r, []string{"a", "UPPER.TXT", "Mixed.Dll", "spaces in it", "dots..", "$Recycle.Bin", "ünï", "漢字", "😀", "[x]", "%1", strings.Repeat("long", 40)})
	return path.Join(pick(r, r.dirs), fmt.Sprintf("%d %s", r.names, base))
}

func (r *random) options(attributes uint32) []Option {
	created := paxTime(r.time())
	opts := []Option{Attributes(attributes), Times(r.time(), r.time(), r.time()), Record("LIBARCHIVE.creationtime", created)}
	more := []Option{
		Without("LIBARCHIVE.creationtime"), Record("LIBARCHIVE.creationtime", "1735787045.1"),
		Times(r.time(), time.Time{}, time.Time{}), Without("MSWINDOWS.rawsd"), Record("MSWINDOWS.rawsd", copiedDir),
		EA(fmt.Sprint("EA", r.IntN(100)), make([]byte, r.IntN(300))),
	}
	r.Shuffle(len(more), func(i, j int) { more[i], more[j] = more[j], more[i] })
	return append(opts, more[:r.IntN(3)]...)
}

// time is one of 1900 to 2100.
func (r *random) time() time.Time {
	return time.Unix(r.Int64N(6_311_433_600)-2_208_988_800, r.Int64N(1e9)).UTC()
}

var targets = []string{
	`C:\Users`, `..\relative`, "sub/with slash", `\\server\share\x`, `\\?\C:\long`,
	`\\?\Volume{6f2a1a38-0000-0000-0000-100000000000}\x`, "漢字 😀", `\rooted`,
}

func pick[T any](r *random, of []T) T { return of[r.IntN(len(of))] }
