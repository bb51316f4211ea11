package erofs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"archive/tar"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/zstd"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/erofs/erofstest"
	"github.com/opencontainers/go-digest"
)

// convert makes a blob in a temporary file.
func convert(t testing.TB, src io.Reader, opts erofs.Options) (*os.File, *erofs.Layer, error) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "layer.erofs"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	l, err := erofs.Convert(t.Context(), f, src, opts)
	return f, l, err
}

func mustConvert(t testing.TB, src []byte, opts erofs.Options) (*os.File, *erofs.Layer) {
	t.Helper()
	f, l, err := convert(t, bytes.NewReader(src), opts)
	if err != nil {
		t.Fatal(err)
	}
	return f, l
}

// checkImage compares the images that each layout makes with what the oracle makes of the
// tar, and has fsck.erofs look at them.
func checkImage(t *testing.T, src []byte, opts erofs.Options) {
	t.Helper()
	for _, layout := range []erofs.Options{{Profile: erofs.ProfileRaw}, {Profile: erofs.ProfileRaw, InlineTails: true}, {Profile: erofs.ProfileTar}, {Profile: erofs.ProfileIndex}} {
		if layout.Profile == erofs.ProfileIndex && len(src)%512 != 0 {
			continue // a device has whole blocks
		}
		opts.Profile, opts.InlineTails = layout.Profile, layout.InlineTails
		f, l := mustConvert(t, src, opts)
		want, needs, err := erofstest.FromTar(bytes.NewReader(src), opts.Bottom)
		if err != nil {
			t.Fatalf("oracle: %v", err)
		}
		got, err := erofstest.FromImage(whole(t, f, l, src))
		if err != nil {
			t.Fatalf("%s: %v", opts.Profile, err)
		}
		if d := erofstest.Diff(got, want); d != "" {
			t.Errorf("%s: trees differ:\n%s", opts.Profile, d)
		}
		if d := cmp.Diff(needs, l.Needs.Dirs, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("needs (-want +got):\n%s", d)
		}
		checkRecord(t, f, src, l)
		if opts.Profile == erofs.ProfileTar {
			checkTar(t, blobOf(t, f), src, l, opts)
		}
		if opts.Profile == erofs.ProfileIndex {
			erofstest.Fsck(t, f.Name(), "--extract", "--device="+tarFile(t, src))
			continue
		}
		erofstest.Fsck(t, f.Name())
	}
}

// whole is an image with the tar that its files lie in, if they do.
func whole(t testing.TB, image io.ReaderAt, l *erofs.Layer, src []byte) io.ReaderAt {
	t.Helper()
	if l.Profile != erofs.ProfileIndex {
		return image
	}
	r, _, err := erofs.Join(image, bytes.NewReader(src))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tarFile is a file of these bytes.
func tarFile(t testing.TB, src []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "layer.tar")
	if err := os.WriteFile(name, src, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// checkRecord computes the digests and sizes of a layer that is not compressed anew.
func checkRecord(t *testing.T, f *os.File, src []byte, l *erofs.Layer) {
	t.Helper()
	blob := blobOf(t, f)
	if end := l.Metadata.Offset + l.Metadata.Size; end > int64(len(blob)) || end < int64(len(blob)) && l.Profile == erofs.ProfileRaw {
		t.Fatalf("metadata to byte %d of %d", end, len(blob))
	}
	meta := append(bytes.Clone(blob[:4096]), blob[l.Metadata.Offset:l.Metadata.Offset+l.Metadata.Size]...)
	want := &erofs.Layer{
		Profile:     l.Profile,
		TarDigest:   digest.FromBytes(src),
		TarSize:     int64(len(src)),
		Digest:      digest.FromBytes(blob),
		Size:        int64(len(blob)),
		ImageDigest: digest.FromBytes(blob),
		ImageSize:   int64(len(blob)),
		Metadata: erofs.Span{
			Offset: l.Metadata.Offset, Size: l.Metadata.Size,
			BlobOffset: l.Metadata.Offset, Digest: digest.FromBytes(meta),
		},
	}
	if d := cmp.Diff(want, l, cmpopts.IgnoreFields(erofs.Layer{}, "Needs", "Entries", "UUID")); d != "" {
		t.Errorf("record (-want +got):\n%s", d)
	}
}

// oddLayer has an entry of every kind, and names at the edges of what is allowed.
func oddLayer(t testing.TB) []byte {
	long := strings.Repeat("n", 255)
	deep := strings.Repeat("d23456789/", 150)
	many := []entry{}
	for i := range 400 {
		many = append(many, file(fmt.Sprintf("many/file-with-a-longer-name-%03d", i), fmt.Sprint(i)))
	}
	return makeTar(t, append(many,
		dir("./", 0o711).owned(3, 4),
		file("plain", "hello\n").owned(1000, 1000),
		file("empty", ""),
		file("block", strings.Repeat("b", 4096)),
		file("big", strings.Repeat("0123456789abcdef", 100_000)),
		file("setuid", "x").owned(0, 0).with(func(e *entry) { e.Mode = 0o4755 }),
		file("setgid-sticky", "x").with(func(e *entry) { e.Mode = 0o3755 }),
		file("owner", "x").owned(4294967294, 4294967294),
		file("nanoseconds", "x").at(1, 1),
		file("before-1970", "x").at(-1234567, 890_000_001),
		file("after-2106", "x").at(5_000_000_000, 999_999_999),
		dir("dir", 0o1777),
		dir("dir/empty", 0o700),
		symlink("dir/link", "../plain"),
		symlink("long-link", strings.Repeat("l/", 2040)),
		symlink("dangling", "/nowhere/at all"),
		hardlink("hard", "plain"),
		hardlink("hard-slash", "/plain"),
		hardlink("hard-chain", "hard"),
		hardlink("hard-empty", "empty"),
		hardlink("hard-symlink", "dir/link"),
		device("char", tar.TypeChar, 1, 3),
		device("block-device", tar.TypeBlock, 259, 1048575),
		device("char-large", tar.TypeChar, 4095, 256),
		entry{tar.Header{Typeflag: tar.TypeFifo, Name: "fifo", Mode: 0o600, ModTime: someTime}, ""},
		file("xattrs", "x").xattr("user.a", "1", "user.empty", "", "trusted.b", "\x00\xff", "security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		file("large-xattr", "x").xattr("user.large", strings.Repeat("v", 65535)),
		file("many-xattrs", "x").xattr("user.1", strings.Repeat("1", 3000), "user.2", strings.Repeat("2", 3000)),
		dir("xattr-dir", 0o755).xattr("user.dir", strings.Repeat("x", 4000)),
		symlink("xattr-link", "target").xattr("trusted.link", strings.Repeat("x", 4020)),
		file("xattr-dir/file", "x"),
		file("not-listed/a/b/c", "x").at(1800000000, 5),
		file("not-listed/a/older", "x").at(1600000000, 5),
		file("ünïcödé/文件", "x"),
		file("new\nline", "x"),
		file("not-utf8-\xff\xfe", "x"),
		file("!before-dot", "x"),
		file("dots/!x", "1"), file("dots/-", "2"), file("dots/.-", "3"), file("dots/..a", "4"), file("dots/.a", "5"), file("dots/...", "6"),
		file(long, "x"),
		file(deep+"file", "x"),
		file("twice", "one"), file("twice", "two, longer"),
		file("becomes-dir", "x"), dir("becomes-dir", 0o750), file("becomes-dir/child", "x"),
		dir("becomes-file", 0o755), file("becomes-file/child", "x"), file("becomes-file", "x"),
		dir("merged", 0o700).xattr("user.first", "1", "user.both", "1"), file("merged/kept", "x"),
		dir("merged", 0o770).owned(7, 8).xattr("user.both", "2"),
		file("linked", "old"), hardlink("keeps-old", "linked"), file("linked", "new"),
		file("././x//y", "x"),
	)...)
}

func (e entry) with(f func(*entry)) entry {
	f(&e)
	return e
}

func TestOddLayer(t *testing.T) {
	checkImage(t, oddLayer(t), erofs.Options{})
}

func TestWhiteouts(t *testing.T) {
	src := makeTar(t,
		file("a/.wh.gone", ""),
		file("a/.wh.twice", ""), file("a/.wh.twice", "").at(1, 0),
		dir("before", 0o700), file("before/.wh..wh..opq", ""), file("before/x", "x"),
		file("after/.wh..wh..opq", ""), dir("after", 0o711), file("after/sub/x", "x"),
		file("alone/.wh..wh..opq", "").at(1900000000, 0),
		file("stays", "x"), file(".wh.stays", ""),
		file(".wh.returns", ""), file("returns", "x"),
		dir("emptied", 0o755), file("emptied/x", "x"), file(".wh.emptied", ""),
		file(".wh.remade", ""), file("remade/sub/x", "x"),
		device("overlay-whiteout", tar.TypeChar, 0, 0),
		file(".wh..wh.aufs", ""), dir(".wh..wh.orph", 0o700), file(".wh..wh.orph/x", "x"), file("a/.wh..wh.junk/b/c", "x"),
		dir(".wh..wh.plnk", 0o700), file(".wh..wh.plnk/1.2", "aufs link"),
		hardlink("aufs-1", ".wh..wh.plnk/1.2"), hardlink("aufs-2", "/.wh..wh.plnk/1.2"),
	)
	for _, bottom := range []bool{false, true} {
		t.Run(fmt.Sprintf("bottom=%v", bottom), func(t *testing.T) {
			checkImage(t, src, erofs.Options{Bottom: bottom})
		})
	}
}

// TestBottomStripsWhiteouts does not trust the oracle with it.
func TestBottomStripsWhiteouts(t *testing.T) {
	src := makeTar(t, file("only/implied/.wh.x", ""), file("dir/.wh..wh..opq", ""), file("dir/y", ""), device("z", tar.TypeChar, 0, 0))
	f, _ := mustConvert(t, src, erofs.Options{Bottom: true})
	tree, err := erofstest.FromImage(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(tree) != 3 || tree["dir"].Xattrs != nil || tree["dir/y"].Same == "" {
		t.Errorf("got %v, want the root, dir and dir/y without xattrs", tree)
	}
}

func TestEmptyLayers(t *testing.T) {
	for name, src := range map[string][]byte{
		"no bytes":           {},
		"two zero blocks":    make([]byte, 1024),
		"one zero block":     make([]byte, 512),
		"padded":             make([]byte, 10240),
		"root":               makeTar(t, dir("./", 0o700)),
		"no end":             makeTar(t, file("a", "b"))[:2048],
		"something after it": append(makeTar(t, file("a", "b")), "trailing bytes"...),
	} {
		t.Run(name, func(t *testing.T) { checkImage(t, src, erofs.Options{}) })
	}
}

// The superblock says where the root is, whose entries may not fit there behind it.
func TestRootThatDoesNotFit(t *testing.T) {
	for _, size := range []int{385, 424, 448, 449, 3968, 3969, 4000, 4032, 4033} {
		var entries []entry
		left := size - 12 - len(".") - 12 - len("..")
		for i := 0; left > 0; i++ {
			n := min(left, 12+200)
			if rest := left - n; rest > 0 && rest < 12+3 {
				n -= 20
			}
			left -= n
			entries = append(entries, file(fmt.Sprintf("%0*d", n-12, i), ""))
		}
		checkImage(t, makeTar(t, append(entries, dir("./", 0o700))...), erofs.Options{})
	}
}

func TestSparse(t *testing.T) {
	pieces := func(n int, gap int64) (list []sparsePiece) {
		for i := range n {
			list = append(list, sparsePiece{int64(i) * gap, strings.Repeat(string(rune('a'+i%26)), 1+i*37%5000)})
		}
		return list
	}
	const mega = 1 << 20
	sparse01 := func(name string, kv ...string) []byte {
		kv = append([]string{"GNU.sparse.name", name, "GNU.sparse.numblocks", "2"}, kv...)
		return append(paxHeader('x', kv...), rawEntry('0', "GNUSparseFile.0/x", "headtail", nil)...)
	}
	version10 := append(paxHeader('x', "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "pax-1.0", "GNU.sparse.realsize", "3000000"),
		rawEntry('0', "GNUSparseFile.0/pax-1.0", "2\n4096\n4\n2999996\n4\n"+strings.Repeat("\x00", 512-19)+"headtail", nil)...)
	src := rawTar(
		gnuSparse("old-4", 10*mega, pieces(4, 2*mega)...),
		gnuSparse("old-60", 30*mega, pieces(60, mega/2)...),
		gnuSparse("old-small", 30000, pieces(3, 9000)...),
		gnuSparse("old-all-hole", 5*mega),
		gnuSparse("old-empty", 0),
		gnuSparse("old-ends-in-data", mega, sparsePiece{mega - 3, "end"}),
		gnuSparse("old-ends-in-chunk", 64*mega+1, sparsePiece{64 * mega, "e"}),
		sparse01("pax-0.0", "GNU.sparse.size", "2000000", "GNU.sparse.offset", "0", "GNU.sparse.numbytes", "4", "GNU.sparse.offset", "1999996", "GNU.sparse.numbytes", "4"),
		sparse01("pax-0.1", "GNU.sparse.size", "2000000", "GNU.sparse.major", "0", "GNU.sparse.minor", "1", "GNU.sparse.map", "4096,4,1000000,4"),
		version10,
		append(paxHeader('x', "SCHILY.xattr.user.odd", "1"), gnuSparse("with-xattr", 9*mega, pieces(4, 2*mega)...)...),
		rawEntry('0', "after", "it goes on", nil),
	)
	checkImage(t, src, erofs.Options{})
	_, l := mustConvert(t, src, erofs.Options{})
	if l.ImageSize > 4*mega {
		t.Errorf("%d bytes: the holes were written out", l.ImageSize)
	}
}

func TestTerabyteHole(t *testing.T) {
	src := rawTar(gnuSparse("huge", 1<<40, sparsePiece{1 << 39, "middle"}, sparsePiece{1<<40 - 3, "end"}))
	f, l := mustConvert(t, src, erofs.Options{})
	if l.ImageSize > 16<<20 {
		t.Errorf("image of %d bytes for 9 bytes of data", l.ImageSize)
	}
	fsys, err := erofs.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	info, err := fsys.Lstat("huge")
	if err != nil || info.Size() != 1<<40 {
		t.Errorf("got %v, %v; want 2^40 bytes", info, err)
	}
	erofstest.Fsck(t, f.Name())
}

func TestHeaders(t *testing.T) {
	base256 := func(at, size int, v int64) func([]byte) {
		return func(h []byte) {
			for i := range size {
				h[at+size-1-i] = byte(v >> min(63, 8*i))
			}
			h[at] |= 0x80
		}
	}
	for name, src := range map[string][]byte{
		"v7":                 rawTar(rawEntry(0, "old", "data", func(h []byte) { clear(h[257:]) })),
		"v7 directory":       rawTar(rawEntry(0, "old/", "", func(h []byte) { clear(h[257:]) })),
		"ustar prefix":       rawTar(rawEntry('0', "name", "data", func(h []byte) { copy(h[257:], "ustar\x0000"); copy(h[345:], "a/prefix") })),
		"star prefix":        rawTar(rawEntry('0', "name", "data", func(h []byte) { copy(h[257:], "ustar\x0000"); copy(h[345:], "a/prefix"); copy(h[508:], "tar\x00") })),
		"contiguous":         rawTar(rawEntry('7', "name", "data", nil)),
		"base-256 uid":       rawTar(rawEntry('0', "name", "data", base256(108, 8, 4000000000))),
		"base-256 old mtime": rawTar(rawEntry('0', "name", "data", base256(136, 12, -5000000000))),
		"signed checksum": rawTar(func() []byte {
			h := rawEntry('0', "n\xe4me", "", nil)
			sum := 0
			copy(h[148:156], "        ")
			for _, c := range h[:512] {
				sum += int(int8(c))
			}
			copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
			return h
		}()),
		"gnu long name":       rawTar(rawEntry('L', "././@LongLink", strings.Repeat("long/", 60)+"name\x00", nil), rawEntry('0', "cut", "data", nil)),
		"gnu long link":       rawTar(rawEntry('K', "././@LongLink", strings.Repeat("long/", 60)+"\x00", nil), rawEntry('2', "link", "", nil)),
		"pax everything":      rawTar(paxHeader('x', "path", "by/pax", "uid", "4294967294", "gid", "7", "mtime", "-1.5", "size", "4"), rawEntry('0', "x", "data", nil)),
		"pax global":          rawTar(paxHeader('g', "path", "nobody", "comment", "x"), rawEntry('0', "x", "data", nil)),
		"global drops pax":    rawTar(paxHeader('x', "path", "dropped"), paxHeader('g', "comment", "x"), rawEntry('0', "x", "data", nil)),
		"later pax wins":      rawTar(paxHeader('x', "path", "dropped", "uid", "5"), paxHeader('x', "path", "kept"), rawEntry('0', "x", "data", nil)),
		"empty pax value":     rawTar(paxHeader('x', "path", "", "uid", ""), rawEntry('0', "x", "data", nil)),
		"size of a directory": rawTar(rawEntry('5', "dir", "", func(h []byte) { copy(h[124:], "00000001000") }), rawEntry('0', "dir/x", "data", nil)),
	} {
		t.Run(name, func(t *testing.T) { checkImage(t, src, erofs.Options{}) })
	}
}

func TestDeterminism(t *testing.T) {
	src := oddLayer(t)
	for _, profile := range []erofs.Profile{erofs.ProfileRaw, erofs.ProfileZstd, erofs.ProfileTar, erofs.ProfileIndex} {
		t.Run(string(profile), func(t *testing.T) {
			_, want := mustConvert(t, src, erofs.Options{Profile: profile})
			inline := profile == erofs.ProfileRaw || profile == erofs.ProfileZstd
			again := func(name string, src io.Reader, opts erofs.Options) {
				t.Helper()
				opts.Profile = profile
				_, got, err := convert(t, src, opts)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("%s (-want +got):\n%s", name, d)
				}
			}
			again("twice", bytes.NewReader(src), erofs.Options{})
			again("serial", bytes.NewReader(src), erofs.Options{Serial: true})
			again("told the tar's size", bytes.NewReader(src), erofs.Options{TarSize: int64(len(src))})
			again("told the tar's size, serial", bytes.NewReader(src), erofs.Options{TarSize: int64(len(src)), Serial: true})
			again("told another size", bytes.NewReader(src), erofs.Options{TarSize: int64(len(src)) + 512})
			again("small reads", iotest.HalfReader(bytes.NewReader(src)), erofs.Options{})
			if inline {
				_, want = mustConvert(t, src, erofs.Options{Profile: profile, InlineTails: true})
				again("inline tails, serial", bytes.NewReader(src), erofs.Options{Serial: true, InlineTails: true})
			}
			for _, n := range []int{1, 8} {
				old := runtime.GOMAXPROCS(n)
				again(fmt.Sprintf("GOMAXPROCS=%d", n), bytes.NewReader(src), erofs.Options{InlineTails: inline})
				runtime.GOMAXPROCS(old)
			}
		})
	}
}

// TestGolden holds the bytes still: a change here needs a new WriterVersion.
func TestGolden(t *testing.T) {
	_, l := mustConvert(t, oddLayer(t), erofs.Options{})
	const want = "sha256:f09398b027fe091ece88e2d1ed40d331bfcb83cc09fedc17fc5e67cd87215c1e"
	if l.Digest != want {
		t.Errorf("got %s, want %s: if the format was meant to change, change erofs.WriterVersion", l.Digest, want)
	}
	if got, want := l.UUID.String(), uuidOf(l.TarDigest); got != want {
		t.Errorf("UUID %s, want containerd's %s", got, want)
	}
}

func TestZstd(t *testing.T) {
	src := oddLayer(t)
	raw, plain := mustConvert(t, src, erofs.Options{})
	f, l := mustConvert(t, src, erofs.Options{Profile: erofs.ProfileZstd})
	if l.ImageDigest != plain.Digest || l.ImageSize != plain.Size {
		t.Errorf("image %s of %d bytes, want that of the raw profile, %s of %d", l.ImageDigest, l.ImageSize, plain.Digest, plain.Size)
	}
	blob, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if digest.FromBytes(blob) != l.Digest || int64(len(blob)) != l.Size {
		t.Errorf("blob of %d bytes does not match the record %s of %d", len(blob), l.Digest, l.Size)
	}
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	image, err := dec.DecodeAll(blob, nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(raw.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(image, want) {
		t.Error("the frames do not hold the raw image")
	}
	meta, err := dec.DecodeAll(blob[l.Metadata.BlobOffset:], nil)
	if err != nil || !bytes.Equal(meta, want[plain.Metadata.Offset:]) {
		t.Errorf("the frames from %d on do not hold the metadata: %v", l.Metadata.BlobOffset, err)
	}
}

func TestProgress(t *testing.T) {
	src := oddLayer(t)
	var last int64
	mustConvert(t, src, erofs.Options{Progress: func(n int64) {
		if n <= last {
			t.Errorf("progress from %d to %d", last, n)
		}
		last = n
	}})
	if last != int64(len(src)) {
		t.Errorf("progress ended at %d of %d", last, len(src))
	}
}

func TestSourceErrors(t *testing.T) {
	src := oddLayer(t)
	boom := errors.New("boom")
	for _, serial := range []bool{false, true} {
		broken := io.MultiReader(bytes.NewReader(src[:1<<20]), iotest.ErrReader(boom))
		if _, _, err := convert(t, broken, erofs.Options{Serial: serial}); !errors.Is(err, boom) {
			t.Errorf("serial=%v: got %v, want the reader's error", serial, err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		endless := &cancelReader{r: bytes.NewReader(bytes.Repeat(makeTar(t, file("a", strings.Repeat("x", 1<<16)))[:512+1<<16], 100)), stop: func() { cancel(boom) }}
		f, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := erofs.Convert(ctx, f, endless, erofs.Options{Serial: serial}); !errors.Is(err, boom) {
			t.Errorf("serial=%v: got %v, want the cause of the cancellation", serial, err)
		}
	}
}

// A connection that breaks is not a tar that was cut, which would be final.
func TestSourceErrorThatHoldsEOF(t *testing.T) {
	src := makeTar(t, file("a", strings.Repeat("x", 1<<20)))
	for at, cause := range map[int]error{600_000: io.EOF, 600_001: io.ErrUnexpectedEOF, 100: io.EOF, 1500: io.EOF} {
		broken := io.MultiReader(bytes.NewReader(src[:at]), iotest.ErrReader(&url.Error{Op: "Get", URL: "https://registry", Err: cause}))
		_, _, err := convert(t, broken, erofs.Options{})
		var entry *erofs.EntryError
		var kept *url.Error
		if errors.As(err, &entry) || !errors.As(err, &kept) {
			t.Errorf("got %v, want the source's error", err)
		}
	}
}

// A slow source is not read on when nobody wants its bytes any more.
func TestConvertEndsWithTheNextRead(t *testing.T) {
	for _, serial := range []bool{false, true} {
		t.Run(fmt.Sprintf("serial=%v", serial), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := &slowReader{}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var dst memFile
				_, err := erofs.Convert(ctx, &dst, src, erofs.Options{Serial: serial})
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want the context's error", err)
				}
				if src.reads > 61 {
					t.Errorf("%d reads of a second each in a minute", src.reads)
				}
			})
			synctest.Test(t, func(t *testing.T) {
				src := &slowReader{first: bytes.Repeat([]byte("garbage "), 256<<10/8)}
				var dst memFile
				_, err := erofs.Convert(t.Context(), &dst, src, erofs.Options{Serial: serial})
				if refused := (*erofs.EntryError)(nil); !errors.As(err, &refused) {
					t.Errorf("got %v, want an EntryError", err)
				}
				if src.reads > 2 {
					t.Errorf("%d reads for a header in the first", src.reads)
				}
			})
		})
	}
}

// slowReader gives what first holds and then, for ever, a byte a second.
type slowReader struct {
	first []byte
	reads int
}

func (s *slowReader) Read(p []byte) (int, error) {
	s.reads++
	if len(s.first) > 0 {
		n := copy(p, s.first)
		s.first = s.first[n:]
		return n, nil
	}
	time.Sleep(time.Second)
	p[0] = 0
	return 1, nil
}

func TestSourceThatGivesNothing(t *testing.T) {
	for _, serial := range []bool{false, true} {
		_, _, err := convert(t, nothing{}, erofs.Options{Serial: serial})
		if !errors.Is(err, io.ErrNoProgress) {
			t.Errorf("serial=%v: got %v, want io.ErrNoProgress", serial, err)
		}
	}
}

type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, nil }

// cancelReader calls stop when about half has been read.
type cancelReader struct {
	r    *bytes.Reader
	stop func()
}

func (c *cancelReader) Read(p []byte) (int, error) {
	if c.r.Len() < int(c.r.Size()/2) {
		c.stop()
	}
	return c.r.Read(p)
}

// fullDisk fails every write behind some bytes.
type fullDisk struct {
	*os.File
	room int64
}

var errFull = errors.New("disk full")

func (d fullDisk) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > d.room {
		return 0, errFull
	}
	return d.File.WriteAt(p, off)
}

func TestFullDisk(t *testing.T) {
	src := oddLayer(t)
	for _, profile := range []erofs.Profile{erofs.ProfileRaw, erofs.ProfileZstd} {
		for _, serial := range []bool{false, true} {
			f, err := os.Create(filepath.Join(t.TempDir(), "out"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			_, err = erofs.Convert(t.Context(), fullDisk{f, 8192}, bytes.NewReader(src), erofs.Options{Profile: profile, Serial: serial})
			if !errors.Is(err, errFull) {
				t.Errorf("%s, serial=%v: got %v, want the disk's error", profile, serial, err)
			}
		}
	}
}

// A layer whose writer was never closed ends without the last file's padding and
// without end blocks. archive/tar reads it, and so does every runtime.
func TestTarThatWasNotClosed(t *testing.T) {
	whole := makeTar(t, file("./", "").with(func(e *entry) { e.Typeflag = tar.TypeDir }), file("last", strings.Repeat("x", 700)))
	end := bytes.LastIndexByte(whole, 'x') + 1
	for _, cut := range []int{end, end + 1, end + 100, len(whole) - 1024, len(whole) - 512} {
		checkImage(t, whole[:cut], erofs.Options{})
	}
	if _, _, err := convert(t, bytes.NewReader(whole[:end-1]), erofs.Options{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("one byte less: %v, want io.ErrUnexpectedEOF", err)
	}
}

// umoci and kaniko name the root itself by a slash.
func TestRootNamedByASlash(t *testing.T) {
	f, _ := mustConvert(t, rawTar(rawEntry('5', "/", "", nil)), erofs.Options{})
	fsys, err := erofs.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	info, err := fs.Stat(fsys, ".")
	if err != nil || !info.IsDir() {
		t.Errorf("root: %v, %v", info, err)
	}
}
