package classic_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/lithify/lithify/cimfs/classic"
	"github.com/lithify/lithify/cimfs/classictest"
)

var (
	big   = bytes.Repeat([]byte("page after page\n"), 1000)
	files = map[string]*classictest.File{
		"small.txt": classictest.Text("small"),
		"big.bin":   {Content: big},
		"empty":     {},
		"holes":     {Sparse: 1 << 40, Flags: 16},
		"app.exe":   {Content: big, PE: []classictest.Mapping{{Offset: 0x400, Delta: 0xc00}, {Offset: 0x2200, Delta: 0x1e00}}},
		"link": {
			ReparseTag: 0xA000000C,
			Reparse:    []byte("target"),
		},
		"odd": {
			Flags:      1 | 2 | 4 | 8,
			Times:      [4]uint64{116444736000000000, 116444736010000005, 0, 1<<64 - 1},
			SD:         []byte("security descriptor"),
			EA:         []byte("extended attributes"),
			ReparseTag: 0x80000013,
			Reparse:    []byte("deduplicated"),
			Streams:    map[string][]byte{"Zone.Identifier": []byte("[ZoneTransfer]"), "a": nil, "big": big},
		},
	}
)

// sample has a bit of everything.
func sample() classictest.Image {
	hard := classictest.Text("of two names")
	dir := classictest.Dir(map[string]*classictest.File{
		"Straße.txt": classictest.Text("ß"), "ÄÖÜ": classictest.Text("umlauts"), "\U0001F600": classictest.Text("smile"),
		"deep": classictest.Dir(map[string]*classictest.File{"er": classictest.Dir(nil), "hard": hard}),
		"_":    classictest.Text("_"), "Z": classictest.Text("Z"), "b": classictest.Text("b"),
	})
	dir.SD = []byte("of the directory")
	root := classictest.Dir(map[string]*classictest.File{"Windows": dir, "Hard": hard})
	for name, f := range files {
		root.Files[name] = f
	}
	return classictest.Image{Root: root}
}

func open(t *testing.T, im classictest.Image) *classic.CIM {
	t.Helper()
	c, err := classic.OpenFS(im.FS(), classictest.Name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestFS reads every shape of the image by Go's own test of file systems.
func TestFS(t *testing.T) {
	counted, fork, short, long := sample(), sample(), sample(), sample()
	counted.CountedStreams, fork.Fork, short.FileSize, long.FileSize = true, true, 72, 128
	for name, im := range map[string]classictest.Image{"plain": sample(), "counted streams": counted, "fork": fork, "short files": short, "long files": long} {
		t.Run(name, func(t *testing.T) {
			delete(im.Root.Files, "holes") // fstest reads all of a file
			c := open(t, im)
			want := []string{"small.txt", "app.exe", "Windows/deep/hard", "Windows/Straße.txt", "Windows/\U0001F600", "Windows/deep/er"}
			if err := fstest.TestFS(c, want...); err != nil {
				t.Error(err)
			}
			if got, err := c.Verify(t.Context()); err != nil || got.Directories != 4 {
				t.Errorf("verify: %+v, %v", got, err)
			}
		})
	}
}

func TestContent(t *testing.T) {
	c := open(t, sample())
	for name, want := range map[string][]byte{"small.txt": []byte("small"), "big.bin": big, "empty": nil, "app.exe": big, "Windows/deep/hard": []byte("of two names")} {
		got, err := fs.ReadFile(c, name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(want))
		}
	}
	f, err := c.Open("app.exe")
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 0x300)
	for _, off := range []int64{0, 0x3ff, 0x400, 0x2100, 0x2200, int64(len(big)) - 0x300} {
		if _, err := f.(io.ReaderAt).ReadAt(b, off); err != nil || !bytes.Equal(b, big[off:][:len(b)]) {
			t.Errorf("a PE image at %#x: %v", off, err)
		}
	}
	if f, err = c.Open("holes"); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if _, readErr := f.(io.ReaderAt).ReadAt(b, 1<<39); err != nil || readErr != nil || info.Size() != 1<<40 || !bytes.Equal(b, make([]byte, len(b))) {
		t.Errorf("a sparse file: %v, %v, %v", info, err, readErr)
	}
}

func TestMetadata(t *testing.T) {
	c := open(t, sample())
	info, err := c.Stat("odd")
	if err != nil {
		t.Fatal(err)
	}
	got := *info.Sys().(*classic.Metadata)
	if got.FileID == 0 {
		t.Error("no file ID")
	}
	got.FileID = 0
	want := classic.Metadata{
		Attributes:         classic.AttributeReadOnly | classic.AttributeHidden | classic.AttributeSystem | classic.AttributeArchive | classic.AttributeReparsePoint,
		CreationTime:       time.Unix(0, 0).UTC(),
		LastWriteTime:      time.Unix(1, 500).UTC(),
		LastAccessTime:     time.Date(60056, 5, 28, 5, 36, 10, 955161500, time.UTC),
		SecurityDescriptor: []byte("security descriptor"),
		ExtendedAttributes: []byte("extended attributes"),
		ReparseTag:         0x80000013,
		Reparse:            []byte("deduplicated"),
		Streams:            []classic.Stream{{Name: "a"}, {Name: "big", Size: int64(len(big))}, {Name: "Zone.Identifier", Size: 14}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	im := sample()
	im.Root.Files["junction"] = classictest.Dir(nil)
	im.Root.Files["junction"].ReparseTag, im.Root.Files["junction"].Reparse = 0xA0000003, []byte("mount point")
	im.Root.Files["cloud"] = classictest.Dir(nil)
	im.Root.Files["cloud"].ReparseTag, im.Root.Files["cloud"].Reparse = 0x9000001A, []byte("cloud")
	c = open(t, im)
	for name, want := range map[string]fs.FileMode{"junction": fs.ModeIrregular | 0o444, "cloud": fs.ModeDir | 0o555, "odd": fs.ModeIrregular | 0o444, "link": fs.ModeSymlink | 0o444, "Windows": fs.ModeDir | 0o555, "empty": 0o444} {
		if info, err := c.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want mode %v", name, info, err, want)
		}
	}
	a, err := c.Stat("Hard")
	b, err2 := c.Stat("Windows/deep/hard")
	if err != nil || err2 != nil || a.Sys().(*classic.Metadata).FileID != b.Sys().(*classic.Metadata).FileID {
		t.Errorf("two names of one file: %v, %v", err, err2)
	}
}

func TestNamesInEitherCase(t *testing.T) {
	c := open(t, sample())
	for name, stored := range map[string]string{"WINDOWS/äöü": "ÄÖÜ", "windows/Z": "Z", "windows/B": "b", "windows/STRAßE.TXT": "Straße.txt", "wINDOWS/DEEP/ER": "er"} {
		if info, err := c.Stat(name); err != nil || info.Name() != stored {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	for _, name := range []string{"windows/STRASSE.TXT", "none", "small.txt/x", "windows/a", "windows/zz", strings.Repeat("a/", 20000) + "a"} {
		if _, err := c.Open(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%.50s: %v", name, err)
		}
	}
	if _, err := c.ReadDir("small.txt"); err == nil || errdefs.IsInvalidArgument(err) {
		t.Errorf("a file as a directory: %v", err)
	}
}

func TestStreams(t *testing.T) {
	for _, counted := range []bool{false, true} {
		im := sample()
		im.CountedStreams = counted
		c := open(t, im)
		info, err := c.Stat("odd")
		if err != nil {
			t.Fatal(err)
		}
		got := info.Sys().(*classic.Metadata).Streams
		if want := []classic.Stream{{Name: "a"}, {Name: "big", Size: int64(len(big))}, {Name: "Zone.Identifier", Size: 14}}; !cmp.Equal(got, want) {
			t.Errorf("counted %v: %v, want %v", counted, got, want)
		}
		r, err := c.OpenStream("odd", "ZONE.identifier")
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r); err != nil || string(b) != "[ZoneTransfer]" {
			t.Errorf("%q, %v", b, err)
		}
		if _, err := c.OpenStream("odd", "none"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("no such stream: %v", err)
		}
	}
}

// TestManyFiles has a directory that needs three file tables.
func TestManyFiles(t *testing.T) {
	dir := classictest.Dir(nil)
	for i := range 2500 {
		dir.Files[fmt.Sprintf("File %d", i)] = classictest.Text(fmt.Sprint(i))
	}
	path, err := (classictest.Image{Root: dir}).Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c, err := classic.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2500 {
		if b, err := fs.ReadFile(c, fmt.Sprintf("FILE %d", i)); err != nil || string(b) != fmt.Sprint(i) {
			t.Fatalf("file %d: %q, %v", i, b, err)
		}
	}
	if got, err := c.Verify(t.Context()); err != nil || *got != (classic.Summary{Directories: 1, Files: 2500}) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestVerifyCounts(t *testing.T) {
	got, err := open(t, sample()).Verify(t.Context())
	if want := (classic.Summary{Directories: 4, Files: 14, Links: 1, Streams: 3}); err != nil || *got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}

func TestRefusedAtOnce(t *testing.T) {
	le := binary.LittleEndian
	for name, tc := range map[string]struct {
		change func(fsys fstest.MapFS)
		is     func(error) bool
		says   string
	}{
		"version 3":     {func(fsys fstest.MapFS) { le.PutUint32(fsys[classictest.Name].Data[16:], 3) }, errdefs.IsNotImplemented, "version 3.0"},
		"version 1":     {func(fsys fstest.MapFS) { le.PutUint32(fsys[classictest.Name].Data[16:], 1) }, errdefs.IsNotImplemented, "version 1.0"},
		"another file":  {func(fsys fstest.MapFS) { copy(fsys[classictest.Name].Data, "EMUCIM1 ") }, errdefs.IsInvalidArgument, "not a file of a classic CIM"},
		"an empty file": {func(fsys fstest.MapFS) { fsys[classictest.Name].Data = nil }, errdefs.IsInvalidArgument, "not a file of a classic CIM"},
		"a region": {func(fsys fstest.MapFS) {
			fsys[classictest.Name] = &fstest.MapFile{Data: append(fsys[classictest.Metadata].Data[:40:40], make([]byte, 40)...)}
		}, errdefs.IsInvalidArgument, "not NAME.cim"},
		"no region":       {func(fsys fstest.MapFS) { delete(fsys, classictest.Metadata) }, func(err error) bool { return errors.Is(err, fs.ErrNotExist) }, classictest.Metadata},
		"a cut region":    {func(fsys fstest.MapFS) { f := fsys[classictest.Metadata]; f.Data = f.Data[:1000] }, errdefs.IsInvalidArgument, "file system"},
		"region of v3":    {func(fsys fstest.MapFS) { le.PutUint32(fsys[classictest.Metadata].Data[16:], 3) }, errdefs.IsNotImplemented, "version 3.0"},
		"missing parents": {func(fsys fstest.MapFS) { le.PutUint16(fsys[classictest.Name].Data[70:], 9) }, errdefs.IsInvalidArgument, "9 parents"},
		"nowhere":         {func(fsys fstest.MapFS) { clear(fsys[classictest.Name].Data[56:64]) }, errdefs.IsInvalidArgument, "nowhere"},
		"no such region":  {func(fsys fstest.MapFS) { fsys[classictest.Name].Data[62] = 9 }, errdefs.IsInvalidArgument, "region 9"},
		"too many regions": {func(fsys fstest.MapFS) {
			for i := range 1 << 16 {
				fsys[strings.TrimSuffix(classictest.Metadata, "0")+fmt.Sprint(i)] = fsys[classictest.Metadata]
			}
			head := fsys[classictest.Name]
			le.PutUint16(head.Data[48:], 1<<16-1)
			le.PutUint16(head.Data[70:], 1)
			head.Data = append(head.Data, head.Data[32:56]...)
		}, errdefs.IsInvalidArgument, "more than 65536 regions"},
		"far away": {func(fsys fstest.MapFS) { fsys[classictest.Name].Data[61] = 9 }, errdefs.IsInvalidArgument, "beyond"},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := sample().FS()
			tc.change(fsys)
			if _, err := classic.OpenFS(fsys, classictest.Name); !tc.is(err) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want it to name %q", err, tc.says)
			}
		})
	}
}

// TestDamagedRoot is of what Open sees of its own.
func TestDamagedRoot(t *testing.T) {
	patched := func(patch func([]byte)) *classictest.File {
		root := classictest.Dir(map[string]*classictest.File{"a": {}})
		root.PatchFile = patch
		return root
	}
	for name, tc := range map[string]struct {
		image classictest.Image
		says  string
	}{
		"no directory": {classictest.Image{Root: patched(put64(48, 10))}, "its root is no directory"},
		"short files":  {classictest.Image{Root: patched(nil), FileSize: 40}, "of 40 bytes each"},
		"no files":     {classictest.Image{Root: patched(nil), FileSize: 1}, "of 1 bytes each"},
		"of all bytes": {classictest.Image{Root: patched(put64(48, 1<<48|1<<40))}, "directories of more than"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := classic.OpenFS(tc.image.FS(), classictest.Name); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want it to name %q", err, tc.says)
			}
		})
	}
}

// TestHugeDirectory is of one that is not read into memory: its region is as long, and has holes.
func TestHugeDirectory(t *testing.T) {
	const length = 300 << 20
	root := classictest.Dir(map[string]*classictest.File{"a": {}})
	root.PatchLinks, root.PatchFile = put32(0, length), put64(48, 1<<48|length)
	path, err := (classictest.Image{Root: root}).Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(filepath.Dir(path), classictest.Metadata), 2*length); err != nil {
		t.Fatal(err)
	}
	c, err := classic.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.ReadDir("."); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "a table of 314572800 bytes") {
		t.Errorf("got %v", err)
	}
	if _, err := c.Stat("A"); err != nil {
		t.Errorf("a file of it: %v", err)
	}
}

// put64 patches eight bytes.
func put64(off int, v uint64) func([]byte) {
	return func(b []byte) { binary.LittleEndian.PutUint64(b[off:], v) }
}

func put32(off int, v uint32) func([]byte) {
	return func(b []byte) { binary.LittleEndian.PutUint32(b[off:], v) }
}

// TestDamaged has Verify, and who walks through a CIM, come upon what does not hold together.
func TestDamaged(t *testing.T) {
	cycle := classictest.Dir(nil)
	cycle.Files["again"] = classictest.Dir(map[string]*classictest.File{"cycle": cycle})
	root := classictest.Dir(nil)
	root.Files["root"] = root
	twice := classictest.Dir(nil)
	chain := classictest.Dir(nil)
	for range 40 { // 2^40 directories, if each were entered by each of its names
		chain = classictest.Dir(map[string]*classictest.File{"a": chain, "b": chain})
	}
	deep := classictest.Dir(nil)
	for range 140 {
		deep = classictest.Dir(map[string]*classictest.File{strings.Repeat("d", 250): deep})
	}
	file := func(f classictest.File) *classictest.File {
		if f.Content == nil {
			f.Content = []byte("content")
		}
		return classictest.Dir(map[string]*classictest.File{"file": &f, "other": classictest.Text("x")})
	}
	links := func(patch func([]byte)) *classictest.File {
		d := file(classictest.File{})
		d.PatchLinks = patch
		return d
	}
	const far = 1 << 40
	for name, tc := range map[string]struct {
		root *classictest.File
		says string
	}{
		"cycle":                 {classictest.Dir(map[string]*classictest.File{"cycle": cycle}), "two names"},
		"root in itself":        {root, "two names"},
		"directory linked":      {classictest.Dir(map[string]*classictest.File{"a": twice, "b": twice}), "two names"},
		"2^40 directories":      {chain, "two names"},
		"too deep":              {deep, "a path of more than"},
		"no such file":          {links(put32(8, 99)), "no file 99"},
		"file zero":             {links(put32(8, 0)), "no file 0"},
		"far table":             {links(put32(8, 5000)), "no file 5000"},
		"names out of order":    {links(func(b []byte) { b[16], b[20] = b[20], b[16] }), "not found by its name"},
		"too many names":        {links(put32(4, 1<<31)), "names"},
		"table too long":        {links(put32(0, 1<<30)), "names"},
		"name outside":          {links(put32(16, 1<<31)), "a name at"},
		"name too long":         {links(func(b []byte) { b[24], b[25] = 0xff, 0xff }), "65535 characters"},
		"name over the end":     {links(func(b []byte) { b[24] = 100 }), "a name at"},
		"no name":               {links(func(b []byte) { b[24] = 0 }), "no UTF-16"},
		"half a character":      {links(func(b []byte) { b[26], b[27] = 0, 0xd8 }), "no UTF-16"},
		"separator":             {links(func(b []byte) { b[26] = '/' }), "Windows has not"},
		"backslash":             {links(func(b []byte) { b[26] = '\\' }), "Windows has not"},
		"dots":                  {classictest.Dir(map[string]*classictest.File{"..": {}}), "Windows has not"},
		"content outside":       {file(classictest.File{PatchFile: put64(48, far)}), "beyond"},
		"content without end":   {file(classictest.File{PatchFile: put64(48, 1<<48-1)}), "beyond"},
		"content nowhere":       {file(classictest.File{PatchFile: put64(40, 0)}), "nowhere"},
		"content in no region":  {file(classictest.File{PatchFile: put64(40, 1<<63+40)}), "region 32768 is nowhere"},
		"unknown kind":          {file(classictest.File{PatchFile: put64(48, 3<<48)}), "kind 3"},
		"SD outside":            {file(classictest.File{PatchFile: put64(56, far)}), "security descriptor"},
		"EA outside":            {file(classictest.File{PatchFile: put64(64, far)}), "extended attributes"},
		"reparse outside":       {file(classictest.File{PatchFile: put64(72, far)}), "reparse point"},
		"streams outside":       {file(classictest.File{PatchFile: put64(80, far)}), "alternate streams"},
		"stream of no kind":     {file(classictest.File{Streams: map[string][]byte{"s": []byte("s")}, PatchLinks: put64(16, 3<<48)}), "a stream of kind 3"},
		"stream of names":       {file(classictest.File{Streams: map[string][]byte{"s": []byte("s")}, PatchLinks: put64(16, 1<<48|1)}), "a stream of kind 1"},
		"PE outside":            {file(classictest.File{PE: []classictest.Mapping{}, PatchFile: put64(40, far)}), "PE image"},
		"PE data outside":       {file(classictest.File{PE: []classictest.Mapping{}, PatchFile: put64(48, 2<<48|far)}), "beyond"},
		"PE mappings unordered": {file(classictest.File{Content: big, PE: []classictest.Mapping{{Offset: 64}, {Offset: 32, Delta: 64}}}), "a mapping"},
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t, classictest.Image{Root: tc.root})
			if _, err := c.Verify(t.Context()); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %.200v, want it to name %q", err, tc.says)
			}
			if tc.root == deep { // which is long to walk through
				_, err := open(t, classictest.Image{Root: deep}).ReadDir(strings.TrimSuffix(strings.Repeat(strings.Repeat("d", 250)+"/", 130), "/"))
				if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("read: %.200v", err)
				}
				return
			}
			if n := walk(open(t, classictest.Image{Root: tc.root}), 60); n > 60 {
				t.Error("there is no end of files")
			}
		})
	}
}

// walk reads of everything in a CIM, and gives how much there was.
func walk(c *classic.CIM, most int) (n int) {
	fs.WalkDir(c, ".", func(path string, d fs.DirEntry, err error) error {
		if n++; n > most {
			return fs.SkipAll
		}
		if err != nil {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		for _, s := range info.Sys().(*classic.Metadata).Streams {
			if r, err := c.OpenStream(path, s.Name); err == nil {
				io.CopyN(io.Discard, r, 1<<16)
			}
		}
		if f, err := c.Open(path); err == nil {
			io.CopyN(io.Discard, f, 1<<16)
			f.Close()
		}
		return nil
	})
	return n
}
