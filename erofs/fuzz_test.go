package erofs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/erofs/erofstest"
)

// memFile is a File in memory.
type memFile struct{ b []byte }

func (m *memFile) Write(p []byte) (int, error) { return m.WriteAt(p, int64(len(m.b))) }

func (m *memFile) WriteAt(p []byte, off int64) (int, error) {
	if grow := off + int64(len(p)) - int64(len(m.b)); grow > 0 {
		m.b = append(m.b, make([]byte, grow)...)
	}
	return copy(m.b[off:], p), nil
}

func (m *memFile) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.b).ReadAt(p, off)
}

// fuzzLimits keep one run short.
var fuzzLimits = erofs.Limits{Bytes: 8 << 20, FileBytes: 16 << 20, Entries: 2000, MetaBytes: 4 << 20}

// FuzzConvert holds Convert against archive/tar: what it accepts, the oracle
// accepts, and both make the same tree of it.
func FuzzConvert(f *testing.F) {
	addTars(f)
	f.Fuzz(func(t *testing.T, src []byte, bottom, sums bool) {
		if src = bytes.Clone(src); sums {
			fixChecksums(src)
		}
		checkDifferential(t, src, bottom)
	})
}

// checkDifferential is what all fuzz targets of the tar reader hold.
func checkDifferential(t *testing.T, src []byte, bottom bool) {
	for _, opts := range []erofs.Options{{}, {InlineTails: true}, {Profile: erofs.ProfileTar}, {Profile: erofs.ProfileIndex}} {
		opts.Bottom, opts.Serial, opts.Limits = bottom, true, fuzzLimits
		checkProfile(t, src, opts)
	}
}

func checkProfile(t *testing.T, src []byte, opts erofs.Options) {
	var dst memFile
	l, err := erofs.Convert(t.Context(), &dst, bytes.NewReader(src), opts)
	if err != nil {
		var entry *erofs.EntryError
		var limit *erofs.LimitError
		var unresolved *erofs.UnresolvedError
		if !errors.As(err, &entry) && !errors.As(err, &limit) && !errors.As(err, &unresolved) {
			t.Fatalf("error of no kind: %v", err)
		}
		return
	}
	want, _, err := erofstest.FromTar(bytes.NewReader(src), opts.Bottom)
	if err != nil {
		t.Fatalf("accepted what archive/tar refuses: %v", err)
	}
	got, err := erofstest.FromImage(whole(t, &dst, l, src))
	if err != nil {
		t.Fatal(err)
	}
	erofstest.CheckTrees(t, got, want)
	if l.Size != int64(len(dst.b)) {
		t.Errorf("size %d of %d bytes", l.Size, len(dst.b))
	}
	if opts.Profile == erofs.ProfileTar && !bytes.HasPrefix(dst.b[4096:], src) {
		t.Error("the tar is not in the blob")
	}
}

// FuzzPAX puts a PAX header before a file, its records free but for the framing.
func FuzzPAX(f *testing.F) {
	f.Add("path", "a/b", "mtime", "-1.5", "data")
	f.Add("uid", "4294967294", "SCHILY.xattr.user.x", "\x00", "data")
	f.Add("GNU.sparse.map", "4096,4,90000,0", "GNU.sparse.numblocks", "2", "data")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2, data string) {
		src := rawTar(paxHeader('x', "GNU.sparse.size", "90000", k1, v1, k2, v2), rawEntry('0', "name", data, nil))
		checkDifferential(t, src, false)
	})
}

// FuzzSparse tries maps of GNU tar's formats: 1.0 in the data, and the old one in
// the header and a block after it.
func FuzzSparse(f *testing.F) {
	f.Add("1\n90000\n4\n", "100000", []byte("00000000000\x0000000000004\x00"), "data")
	f.Fuzz(func(t *testing.T, lines, size string, pairs []byte, data string) {
		padded := lines + strings.Repeat("\x00", -len(lines)&511) + data
		checkDifferential(t, rawTar(
			paxHeader('x', "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", size),
			rawEntry('0', "name", padded, nil)), false)
		old := rawEntry('S', "name", data, func(h []byte) { copy(h[386:500], pairs) })
		if old[482] > 0 {
			ext := make([]byte, 512)
			copy(ext, pairs[min(len(pairs), 97):])
			old = slices.Insert(old, 512, ext...)
		}
		checkDifferential(t, rawTar(old), false)
	})
}

func addTars(f *testing.F) {
	f.Add(makeTar(f, file("a/b", "c"), dir("a", 0o700).xattr("user.x", "1"), hardlink("l", "a/b"), symlink("s", "a"), file("a/.wh.x", ""), file("a/.wh..wh..opq", "")), false, true)
	f.Add(makeTar(f, device("c", '3', 0, 0), file(".wh..wh.plnk/1", "x"), hardlink("x", ".wh..wh.plnk/1"), file("x/.wh.y", "")), true, true)
	f.Add(rawTar(gnuSparse("s", 300000, sparsePieces(30, 8192)...)), false, true)
	f.Add(rawTar(paxHeader('x', "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "s", "GNU.sparse.realsize", "100000"), rawEntry('0', "s", "1\n90000\n4\n"+string(make([]byte, 502))+"data", nil)), false, true)
	f.Add(rawTar(paxHeader('x', "GNU.sparse.size", "100000", "GNU.sparse.numblocks", "1", "GNU.sparse.offset", "90000", "GNU.sparse.numbytes", "4"), rawEntry('0', "s", "data", nil)), false, true)
	f.Add(rawTar(rawEntry('L', "x", "long/name", nil), rawEntry('K', "x", "target", nil), rawEntry('2', "s", "", nil), paxHeader('g', "a", "b"), rawEntry(0, "dir/", "", nil)), false, true)
}

// fixChecksums lets changed headers through to what lies behind the checksum.
func fixChecksums(src []byte) {
	for ; len(src) >= 512; src = src[512:] {
		if bytes.HasPrefix(src[257:], []byte("ustar")) {
			setChecksum(src[:512])
		}
	}
}

// FuzzOpen reads whole trees out of damaged images: an error or a tree, never a
// panic.
func FuzzOpen(f *testing.F) {
	for _, src := range [][]byte{
		makeTar(f, file("a/b", "c"), symlink("s", "a/b"), file("x", "x").xattr("user.x", "1")),
		rawTar(gnuSparse("s", 300000, sparsePieces(3, 81920)...)),
	} {
		var dst memFile
		if _, err := erofs.Convert(f.Context(), &dst, bytes.NewReader(src), erofs.Options{}); err != nil {
			f.Fatal(err)
		}
		f.Add(dst.b)
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		fsys, err := erofs.Open(bytes.NewReader(image))
		if err != nil {
			return
		}
		w := &walker{left: 100}
		w.visit(fsys, ".")
	})
}

// FuzzReadMetadata trusts neither blob nor record.
func FuzzReadMetadata(f *testing.F) {
	src := makeTar(f, file("a/b", "c"))
	for _, p := range []erofs.Profile{erofs.ProfileRaw, erofs.ProfileZstd} {
		var dst memFile
		l, err := erofs.Convert(f.Context(), &dst, bytes.NewReader(src), erofs.Options{Profile: p})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(dst.b, p == erofs.ProfileZstd, l.Metadata.BlobOffset, l.Metadata.Size, l.Size)
	}
	f.Fuzz(func(t *testing.T, blob []byte, zstd bool, off, n, size int64) {
		l := &erofs.Layer{Profile: erofs.ProfileRaw, Size: size, Metadata: erofs.Span{BlobOffset: off, Size: n}}
		if zstd {
			l.Profile = erofs.ProfileZstd
		}
		if _, _, err := erofs.ReadMetadata(bytes.NewReader(blob), l); err == nil {
			t.Error("accepted metadata without a digest")
		}
	})
}

// walker looks at a tree that may have loops, as far as a number of files.
type walker struct{ left int }

func (w *walker) visit(fsys fs.ReadLinkFS, name string) {
	if w.left--; w.left < 0 {
		return
	}
	info, err := fsys.Lstat(name)
	if err != nil {
		return
	}
	if _, err := erofs.LowerFileOf(info); err != nil {
		return
	}
	fsys.ReadLink(name)
	f, err := fsys.Open(name)
	if err != nil {
		return
	}
	defer f.Close()
	io.CopyN(io.Discard, f, 1<<16)
	if d, ok := f.(fs.ReadDirFile); ok {
		list, _ := d.ReadDir(-1)
		for _, e := range list {
			w.visit(fsys, path.Join(name, e.Name()))
		}
	}
}
