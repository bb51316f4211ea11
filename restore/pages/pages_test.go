package pages_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/lithify/lithify/restore/archive"
	"github.com/lithify/lithify/restore/pages"
)

// store is a registry in memory. What is written has its name after name.
type store map[digest.Digest]*blob

type blob struct{ bytes.Buffer }

func (*blob) Close() error { return nil }

func (s store) create() (io.WriteCloser, error) {
	b := &blob{}
	s[digest.Digest(fmt.Sprint("new", len(s)))] = b
	return b, nil
}

func (s store) name() {
	for d, b := range s {
		delete(s, d)
		s[digest.FromBytes(b.Bytes())] = b
	}
}

func (s store) size() (n int64) {
	for _, b := range s {
		n += int64(b.Len())
	}
	return n
}

func (s store) FetchRange(_ context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	b := s[desc.Digest]
	if b == nil {
		return nil, fmt.Errorf("%s: %w", desc.Digest, errdefs.ErrNotFound)
	}
	return io.NopCloser(io.NewSectionReader(bytes.NewReader(b.Bytes()), off, n)), nil
}

func checkSame(t *testing.T, want, got string, x *pages.Index) {
	t.Helper()
	if len(x.Files) == 0 {
		t.Error("no files")
	}
	for _, f := range x.Files {
		w, err := os.ReadFile(filepath.Join(want, f.Name))
		if err != nil {
			t.Fatal(err)
		}
		g, err := os.ReadFile(filepath.Join(got, f.Name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(w, g) {
			t.Errorf("%s is another", f.Name)
		}
	}
}

// run are pages at an address, each of one letter; '0' are zeros, '?' are random.
type run struct {
	addr  uint64
	pages string
}

// process writes the images of a process with such memory.
func process(t testing.TB, runs ...run) string {
	t.Helper()
	dir := t.TempDir()
	if err := processIn(dir, runs...); err != nil {
		t.Fatal(err)
	}
	return dir
}

func processIn(dir string, runs ...run) error {
	number := func(b []byte, pairs ...uint64) []byte {
		for i := 0; i < len(pairs); i += 2 {
			b = protowire.AppendVarint(protowire.AppendTag(b, protowire.Number(pairs[i]), protowire.VarintType), pairs[i+1])
		}
		return b
	}
	images := filepath.Join(dir, archive.ImagesDir)
	failed := os.Mkdir(images, 0o700)
	write := func(name string, magics []uint32, messages ...[]byte) {
		var b []byte
		for _, m := range magics {
			b = binary.LittleEndian.AppendUint32(b, m)
		}
		for _, m := range messages {
			b = append(binary.LittleEndian.AppendUint32(b, uint32(len(m))), m...)
		}
		failed = errors.Join(failed, os.WriteFile(filepath.Join(images, name), b, 0o600))
	}
	common := func(own uint32) []uint32 { return []uint32{0x54564319, own} }
	write("inventory.img", []uint32{0x58313116}, number(nil, 1, 2))
	write("pstree.img", common(0x50273030), number(nil, 1, 1, 2, 0, 3, 1, 4, 1, 5, 1))
	write("core-1.img", common(0x55053847), number(nil, 1, 1))
	write("ids-1.img", common(0x54432030))
	write("fs-1.img", common(0x51403912))
	write("mm-1.img", common(0x57492820), number(nil, 1, 4096))
	maps, memory := [][]byte{number(nil, 1, 1)}, []byte{}
	random := rand.New(rand.NewSource(1))
	for _, r := range runs {
		maps = append(maps, number(nil, 1, r.addr, 2, uint64(len(r.pages)), 4, 4))
		for _, c := range r.pages {
			page := bytes.Repeat([]byte{byte(c)}, 4096)
			switch c {
			case '0':
				clear(page)
			case '?':
				random.Read(page)
			}
			memory = append(memory, page...)
		}
	}
	write("pagemap-1.img", common(0x56084025), maps...)
	return errors.Join(failed, os.WriteFile(filepath.Join(images, "pages-1.img"), memory, 0o600))
}

func indexOf(t testing.TB, dir string, previous *pages.Index, blobs store) *pages.Index {
	t.Helper()
	x, err := pages.Split(t.Context(), dir, previous, blobs.create)
	if err != nil {
		t.Fatal(err)
	}
	blobs.name()
	if err := x.Save(dir); err != nil {
		t.Fatal(err)
	}
	again, err := pages.Load(dir, archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func joinInto(t testing.TB, x *pages.Index, src pages.Source, local ...string) (string, *pages.Moved, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, archive.ImagesDir), 0o700); err != nil {
		t.Fatal(err)
	}
	moved, err := x.Join(t.Context(), dir, src, local...)
	return dir, moved, err
}

// TestChunks: cut by address; zeros are nowhere, what is twice is once.
func TestChunks(t *testing.T) {
	blobs := store{}
	dir := process(t,
		run{0x10000, strings.Repeat("a", 16)}, // one window
		run{0x2e000, "abcd"},                  // across two
		run{0x40000, "0000"},                  // zeros
		run{0x50000, "b"}, run{0x58000, "c"},  // one window, with a gap
		run{0x60000, strings.Repeat("a", 16)}, // as the first
		run{0x70000, "0b"},                    // zeros and others
	)
	x := indexOf(t, dir, nil, blobs)
	var got []string
	for _, c := range x.Files[0].Chunks {
		got = append(got, fmt.Sprintf("%d:%v", c.Length/4096, c.Size > 0))
	}
	if want := "16:true 2:true 2:true 4:false 2:true 16:true 2:true"; strings.Join(got, " ") != want {
		t.Errorf("chunks %v, want %s", got, want)
	}
	if c := x.Files[0].Chunks; c[0] != c[5] || len(x.Packs) != 1 || blobs.size() != x.Packs[0].Size {
		t.Errorf("index %+v", x)
	}
	out, moved, err := joinInto(t, x, blobs)
	if err != nil {
		t.Fatal(err)
	}
	checkSame(t, dir, out, x)
	if moved.Fetched != x.Packs[0].Size || moved.Zeros != 4*4096 {
		t.Errorf("moved %+v", moved)
	}
	// Holes stay holes, and the same memory makes the same packs.
	other := store{}
	if again := indexOf(t, dir, nil, other); again.Packs[0] != x.Packs[0] {
		t.Errorf("split twice: %v and %v", again.Packs, x.Packs)
	}
}

// TestShift: a page more before them does not make other chunks of those behind it, which
// are at other places in the file now.
func TestShift(t *testing.T) {
	blobs := store{}
	memory := strings.Repeat("?", 160)
	one := process(t, run{0x100000, memory})
	first := indexOf(t, one, nil, blobs)
	before := blobs.size()
	two := process(t, run{0x100000, memory}, run{0x900000, "x"})
	// The random pages are the same, behind a page that is new.
	pages1, err := os.ReadFile(filepath.Join(two, "checkpoint/pages-1.img"))
	if err != nil {
		t.Fatal(err)
	}
	shifted := process(t, run{0x1000, "x"}, run{0x100000, memory})
	moved := append(bytes.Clone(pages1[160*4096:]), pages1[:160*4096]...)
	if err := os.WriteFile(filepath.Join(shifted, "checkpoint/pages-1.img"), moved, 0o600); err != nil {
		t.Fatal(err)
	}
	second := indexOf(t, shifted, first, blobs)
	if more := blobs.size() - before; more > 4096 {
		t.Errorf("%d bytes more for one page", more)
	}
	if len(second.Packs) != 2 || second.Packs[0] != first.Packs[0] {
		t.Errorf("packs %v, first %v", second.Packs, first.Packs)
	}
	out, _, err := joinInto(t, second, blobs)
	if err != nil {
		t.Fatal(err)
	}
	checkSame(t, shifted, out, second)
}

// TestGenerations: no checkpoint leans on more than so many, and a pack that nothing is
// used of is not named.
func TestGenerations(t *testing.T) {
	blobs := store{}
	var x *pages.Index
	most := 0
	for i := range 40 {
		x = indexOf(t, process(t, run{0x10000, "?"}, run{0x20000, string(rune('A' + i))}), x, blobs)
		most = max(most, len(x.Packs))
		if len(x.Packs) > 2 {
			t.Fatalf("generation %d: %d packs, and two are used", i, len(x.Packs))
		}
	}
	grow, x := "", nil
	for i := range 40 {
		grow += string(rune('A' + i))
		runs := []run{}
		for at, c := range grow {
			runs = append(runs, run{uint64(0x10000 * (at + 1)), string(c)})
		}
		x = indexOf(t, process(t, runs...), x, blobs)
		if most = max(most, len(x.Packs)); len(x.Packs) > 32 {
			t.Fatalf("generation %d: %d packs", i, len(x.Packs))
		}
	}
	if most != 32 {
		t.Errorf("at most %d packs were used", most)
	}
}

// TestJoinLocal: what is here is compared, and what is damaged comes from the registry.
func TestJoinLocal(t *testing.T) {
	blobs := store{}
	dir := process(t, run{0x100000, strings.Repeat("?", 64)})
	x := indexOf(t, dir, nil, blobs)
	here := process(t, run{0x100000, strings.Repeat("?", 64)})
	indexOf(t, here, nil, store{})
	if _, moved, err := joinInto(t, x, store{}, "/nowhere", t.TempDir(), here); err != nil || moved.Fetched != 0 || moved.Local != 64*4096 {
		t.Errorf("all of it is here: %+v, %v", moved, err)
	}
	file := filepath.Join(here, "checkpoint/pages-1.img")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[100] ^= 1
	if err := os.WriteFile(file, b[:48*4096], 0o600); err != nil {
		t.Fatal(err)
	}
	out, moved, err := joinInto(t, x, blobs, here)
	if err != nil {
		t.Fatal(err)
	}
	checkSame(t, dir, out, x)
	if moved.Local != 32*4096 || moved.Fetched == 0 {
		t.Errorf("one chunk is damaged and one is cut off: %+v", moved)
	}
}

// TestJoinRefuses: nothing is left of what does not come as it should.
func TestJoinRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*blob){
		"flipped":   func(b *blob) { b.Bytes()[b.Len()/2] ^= 1 },
		"truncated": func(b *blob) { b.Truncate(b.Len() - 1) },
	} {
		blobs := store{}
		x := indexOf(t, process(t, run{0x100000, strings.Repeat("?", 64)}), nil, blobs)
		spoil(blobs[x.Packs[0].Digest])
		dir, _, err := joinInto(t, x, blobs)
		if !errdefs.IsDataLoss(err) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "checkpoint/*")); len(left) > 0 {
			t.Errorf("%s: left behind %v", name, left)
		}
	}
	x := indexOf(t, process(t, run{0x100000, "?"}), nil, store{})
	if _, _, err := joinInto(t, x, store{}); !errdefs.IsNotFound(err) {
		t.Errorf("no pack: %v", err)
	}
}

// TestLoadRefuses is what a hostile index meets.
func TestLoadRefuses(t *testing.T) {
	const pack = `"packs":[{"digest":"sha256:1111111111111111111111111111111111111111111111111111111111111111","size":100}]`
	for name, tt := range map[string]struct{ index, want string }{
		"not JSON":            {`[`, "no JSON"},
		"another version":     {`{"version":2}`, "version 2"},
		"no digest":           {`{"version":1,"packs":[{"digest":"x","size":1}]}`, "pack"},
		"empty pack":          {`{"version":1,"packs":[{"digest":"sha256:1111111111111111111111111111111111111111111111111111111111111111","size":0}]}`, "of 0 bytes"},
		"another file":        {`{"version":1,"files":[{"name":"../../etc/passwd"}]}`, "etc/passwd"},
		"another image":       {`{"version":1,"files":[{"name":"checkpoint/core-1.img"}]}`, "core-1.img"},
		"a file twice":        {`{"version":1,"files":[{"name":"checkpoint/pages-1.img"},{"name":"checkpoint/pages-1.img"}]}`, "or one already"},
		"a large chunk":       {`{"version":1,"files":[{"name":"checkpoint/pages-1.img","chunks":[{"l":65537}]}]}`, "65537 bytes"},
		"a negative chunk":    {`{"version":1,"files":[{"name":"checkpoint/pages-1.img","chunks":[{"l":-1}]}]}`, "-1 bytes"},
		"no such pack":        {`{"version":1,"files":[{"name":"checkpoint/pages-1.img","chunks":[{"l":1,"z":1}]}]}`, "pack 0 of 0"},
		"beyond the pack":     {`{"version":1,` + pack + `,"files":[{"name":"checkpoint/pages-1.img","chunks":[{"l":1,"z":1,"o":100}]}]}`, "out of its pack"},
		"before the pack":     {`{"version":1,` + pack + `,"files":[{"name":"checkpoint/pages-1.img","chunks":[{"l":1,"z":1,"o":-1}]}]}`, "out of its pack"},
		"far beyond the pack": {`{"version":1,` + pack + `,"files":[{"name":"checkpoint/pages-1.img","chunks":[{"l":1,"z":1,"o":9223372036854775807}]}]}`, "out of its pack"},
		"a short sum":         {`{"version":1,"files":[{"name":"checkpoint/pages-1.img","chunks":[{"l":1,"s":"AAAA"}]}]}`, "no JSON"},
		"too much":            {`{"version":1,"files":[{"name":"checkpoint/pages-1.img","chunks":[{"l":65536},{"l":65536}]}]}`, "bytes of memory"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "pages.json"), []byte(tt.index), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := pages.Load(dir, archive.Limits{Bytes: 100_000})
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an invalid argument about %q", err, tt.want)
			}
		})
	}
}

// BenchmarkSplit and BenchmarkJoin have memory of which half is random and half is text.
func BenchmarkSplit(b *testing.B) {
	dir := process(b, run{0x100000, strings.Repeat("?a", 8192)})
	b.SetBytes(64 << 20)
	for b.Loop() {
		indexOf(b, dir, nil, store{})
	}
}

func BenchmarkJoin(b *testing.B) {
	blobs := store{}
	x := indexOf(b, process(b, run{0x100000, strings.Repeat("?a", 8192)}), nil, blobs)
	b.SetBytes(64 << 20)
	for b.Loop() {
		if _, _, err := joinInto(b, x, blobs); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzLoad joins whatever an index says out of nothing.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"version":1,"packs":[{"digest":"sha256:1111111111111111111111111111111111111111111111111111111111111111","size":100}],` +
		`"files":[{"name":"checkpoint/pages-1.img","chunks":[{"l":4096},{"s":"ERERERERERERERERERERERERERERERERERERERERERE","l":4096,"z":10,"o":1}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "pages.json"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		x, err := pages.Load(dir, archive.Limits{Bytes: 1 << 20})
		if err != nil {
			return
		}
		if out, _, err := joinInto(t, x, store{}); err != nil {
			if left, _ := filepath.Glob(filepath.Join(out, "checkpoint/*")); len(left) > 0 {
				t.Fatalf("left behind %v", left)
			}
		}
	})
}
