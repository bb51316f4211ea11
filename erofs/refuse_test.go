package erofs_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/lithify/lithify/erofs"
)

func TestRefusedEntries(t *testing.T) {
	typed := func(typ byte) []byte { return rawTar(rawEntry(typ, "name", "", nil)) }
	whole := makeTar(t, file("ok", "ok"), file("cut", strings.Repeat("x", 5000)))
	for name, c := range map[string]struct {
		src  []byte
		want string // in the message, which also names the entry
	}{
		"absolute":                      {rawTar(rawEntry('0', "/etc/passwd", "", nil)), `"/etc/passwd" at byte 0: the name is absolute`},
		"dot dot":                       {makeTar(t, file("a/../../b", "")), `".."`},
		"dot dot in a link":             {makeTar(t, file("b", ""), hardlink("a", "x/../b")), `".."`},
		"no name":                       {rawTar(rawEntry('0', "", "", nil)), "no name"},
		"root is a file":                {makeTar(t, file("./.", "")), "not a directory"},
		"below a symlink":               {makeTar(t, symlink("lib", "usr/lib"), file("lib/x", "")), "below lib, which is a symbolic link"},
		"below a file":                  {makeTar(t, file("f", ""), dir("f/x/y", 0o755)), "below f, which is a file"},
		"NUL in sparse name":            {rawTar(append(paxHeader('x', "GNU.sparse.name", "a\x00b", "GNU.sparse.numblocks", "0", "GNU.sparse.size", "9", "GNU.sparse.major", "0", "GNU.sparse.minor", "1"), rawEntry('0', "x", "", nil)...)), "NUL"},
		"NUL in path":                   {rawTar(paxHeader('x', "path", "a\x00b"), rawEntry('0', "x", "", nil)), "PAX header is malformed"},
		"name of 256":                   {makeTar(t, file(strings.Repeat("n", 256), "")), "255"},
		"path of 4097":                  {makeTar(t, file(strings.Repeat("d/", 2048)+"x", "")), "4096"},
		"volume header":                 {typed('V'), "'V'"},
		"multi-volume":                  {typed('M'), "'M'"},
		"GNU directory":                 {typed('D'), "'D'"},
		"solaris":                       {typed('X'), "'X'"},
		"type 0xff":                     {typed(0xff), "0xff"},
		"link to a directory":           {makeTar(t, dir("d", 0o755), hardlink("l", "d")), "hard link to the directory d"},
		"link to the root":              {makeTar(t, hardlink("l", "./")), "no target"},
		"link to itself":                {makeTar(t, hardlink("l", "./l")), "itself"},
		"link below a link":             {makeTar(t, symlink("s", "x"), hardlink("l", "s/x")), "below a symbolic link"},
		"link to a whiteout":            {makeTar(t, file(".wh.x", ""), hardlink("l", "x")), "deleted"},
		"link into an opaque directory": {makeTar(t, file("d/.wh..wh..opq", ""), dir("d", 0o755), hardlink("l", "d/deleted")), "d/deleted lies in a directory that this layer has emptied"},
		"link into a new directory":     {makeTar(t, file(".wh.d", ""), dir("d", 0o755), hardlink("l", "d/e/deleted")), "emptied"},
		"link below an opaque root":     {makeTar(t, file(".wh..wh..opq", ""), file("d/x", ""), hardlink("l", "d/deleted")), "emptied"},
		"link where a file was":         {makeTar(t, file("d", ""), dir("d", 0o755), hardlink("l", "d/deleted")), "emptied"},
		"empty symlink":                 {rawTar(rawEntry('2', "l", "", nil)), "without a target"},
		"symlink of 4096":               {makeTar(t, symlink("l", strings.Repeat("x", 4096))), "4095"},
		"below a whiteout":              {makeTar(t, file(".wh.d/x", "")), "below a whiteout"},
		"whiteout of nothing":           {makeTar(t, file("a/.wh.", "")), "whiteout of no name"},
		"whiteout of dot":               {makeTar(t, file("a/.wh..", "")), "whiteout of no name"},
		"whiteout of dot dot":           {makeTar(t, file("a/.wh...", "")), "whiteout of no name"},
		"overlay xattr":                 {makeTar(t, dir("d", 0o755).xattr("trusted.overlay.opaque", "y")), "trusted.overlay.opaque"},
		"foreign name of 256":           {makeTar(t, file("f", "").xattr(strings.Repeat("x", 256), "")), "255"},
		"xattr without a name":          {makeTar(t, file("f", "").xattr("", "1")), "without a name"},
		"prefix alone":                  {makeTar(t, file("f", "").xattr("user.", "1")), "user."},
		"xattr of 65536":                {makeTar(t, file("f", "").xattr("user.x", strings.Repeat("x", 65536))), "65535"},
		"xattr name of 256":             {makeTar(t, file("f", "").xattr("user."+strings.Repeat("x", 251), "")), "255"},
		"xattrs in all":                 {makeTar(t, file("f", "").xattr("user.1", strings.Repeat("x", 65000), "user.2", strings.Repeat("x", 65000), "user.3", strings.Repeat("x", 65000), "user.4", strings.Repeat("x", 65000), "user.5", "x", "user.6", strings.Repeat("y", 4000))), "262 kB"},
		"xattrs of two entries":         {makeTar(t, dir("d", 0o755).xattr(largeXattrs("a", 3)...), dir("d", 0o755).xattr(largeXattrs("b", 3)...)), "262 kB"},
		"xattrs of the root":            {makeTar(t, dir("./", 0o755).xattr(largeXattrs("a", 4)...), dir("./", 0o755).xattr(largeXattrs("b", 1)...)), "262 kB"},
		"no room to be opaque":          {makeTar(t, dir("d", 0o755).xattr(append(largeXattrs("a", 4), "user.rest", strings.Repeat("x", 22088))...)), "262 kB"},
		"uid 2^32-1":                    {makeTar(t, file("f", "").owned(4294967295, 0)), "owner or group"},
		"negative gid":                  {makeTar(t, file("f", "").with(func(e *entry) { e.Gid = -1 })), "owner or group"},
		"major 4096":                    {makeTar(t, device("d", tar.TypeChar, 4096, 1)), "device numbers"},
		"truncated data":                {whole[:4000], `"cut"`},
		"truncated header":              {whole[:2048+100], "truncated"},
		"truncated PAX":                 {makeTar(t, file("f", "").xattr("user.x", strings.Repeat("y", 5000)))[:2000], "truncated"},
		"PAX alone":                     {paxHeader('x', "path", "nobody"), "without an entry"},
		"checksum":                      {append([]byte{'X'}, whole[1:]...), "checksum"},
		"garbage":                       {bytes.Repeat([]byte("garbage "), 1000), "checksum"},
		"gzip":                          {append([]byte("\x1f\x8b\x08"), make([]byte, 2000)...), "checksum"},
		"zero block within":             {append(make([]byte, 512), whole...), "single block of zeros"},
		"sparse overlap":                {rawTar(gnuSparse("s", 100, sparsePiece{10, "aaaa"}, sparsePiece{12, "bbbb"})), "sparse map"},
		"sparse beyond end":             {rawTar(gnuSparse("s", 100, sparsePiece{98, "aaaa"})), "sparse map"},
		"sparse map too long":           {rawTar(paxHeader('x', "GNU.sparse.major", "1", "GNU.sparse.minor", "0"), rawEntry('0', "s", "999999\n", nil)), "sparse map"},
		"sparse without data":           {rawTar(paxHeader('x', "GNU.sparse.map", "0,5", "GNU.sparse.numblocks", "1", "GNU.sparse.size", "5"), rawEntry('0', "s", "", nil)), "sparse map"},
		"sparse symlink":                {rawTar(paxHeader('x', "GNU.sparse.map", "0,5", "GNU.sparse.numblocks", "1"), rawEntry('2', "s", "", func(h []byte) { h[157] = 'x' })), "sparse map"},
		"negative size in PAX":          {rawTar(paxHeader('x', "size", "-1"), rawEntry('0', "s", "", nil)), "size"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, serial := range []bool{false, true} {
				_, _, err := convert(t, bytes.NewReader(c.src), erofs.Options{Serial: serial})
				var refused *erofs.EntryError
				if !errors.As(err, &refused) {
					t.Fatalf("got %v, want an EntryError", err)
				}
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %q, want it to say %q", err, c.want)
				}
				if truncated := strings.HasPrefix(name, "truncated"); truncated != errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("errors.Is(%v, io.ErrUnexpectedEOF) = %v", err, !truncated)
				}
			}
		})
	}
}

func TestLimits(t *testing.T) {
	for name, c := range map[string]struct {
		limits erofs.Limits
		src    []byte
		flag   string
	}{
		"bytes of the tar":   {erofs.Limits{Bytes: 1 << 20}, makeTar(t, file("a", strings.Repeat("x", 1<<20))), "--max-bytes"},
		"bytes of the image": {erofs.Limits{Bytes: 1 << 20}, rawTar(bytes.Repeat(rawEntry('0', "a", "x", nil), 300)), "--max-bytes"},
		"holes written out":  {erofs.Limits{Bytes: 1 << 20}, rawTar(bytes.Repeat(gnuSparse("a", 60000), 20)), "--max-bytes"},
		"entries":            {erofs.Limits{Entries: 10}, rawTar(bytes.Repeat(rawEntry('0', "a", "", nil), 11)), "--max-entries"},
		"implied":            {erofs.Limits{Entries: 10}, makeTar(t, file("1/2/3/4/5/6/7/8/9/10/11", "")), "--max-entries"},
		"aufs":               {erofs.Limits{Entries: 10}, rawTar(bytes.Repeat(rawEntry('0', ".wh..wh.x", "", nil), 11)), "--max-entries"},
		"sparse pieces":      {erofs.Limits{Entries: 10}, rawTar(gnuSparse("a", 1<<30, sparsePieces(20, 1<<22)...)), "--max-entries"},
		"file":               {erofs.Limits{FileBytes: 1 << 20}, rawTar(gnuSparse("a", 1<<20+1)), "--max-file-bytes"},
		"PAX":                {erofs.Limits{PAXBytes: 1000}, makeTar(t, file("a", "").xattr("user.a", strings.Repeat("x", 1000))), "--max-pax-bytes"},
		"long name":          {erofs.Limits{PAXBytes: 1000}, rawTar(rawEntry('L', "x", strings.Repeat("x", 1001), nil)), "--max-pax-bytes"},
		"sparse map":         {erofs.Limits{PAXBytes: 1000}, rawTar(gnuSparse("a", 1<<30, sparsePieces(90, 1<<22)...)), "--max-pax-bytes"},
		"memory":             {erofs.Limits{MetaBytes: 1000}, makeTar(t, symlink("a", strings.Repeat("x", 1000))), "--max-meta-bytes"},
		"chunk index":        {erofs.Limits{MetaBytes: 1 << 20}, rawTar(gnuSparse("a", 1<<40, sparsePieces(400, 1<<31)...)), "--max-meta-bytes"},
		"chunk indexes":      {erofs.Limits{MetaBytes: 8 << 20}, rawTar(bytes.Repeat(gnuSparse("a", 1<<40, sparsePiece{1 << 39, "middle"}), 4)), "--max-meta-bytes"},
		"deep implied":       {erofs.Limits{MetaBytes: 1 << 20}, manyImplied(300), "--max-meta-bytes"},
		"many xattrs":        {erofs.Limits{MetaBytes: 1000}, makeTar(t, file("a", "").xattr(tinyXattrs(30)...)), "--max-meta-bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := convert(t, bytes.NewReader(c.src), erofs.Options{Limits: c.limits})
			var limit *erofs.LimitError
			if !errors.As(err, &limit) || limit.Flag != c.flag || !strings.Contains(err.Error(), c.flag) {
				t.Errorf("got %v, want a LimitError that names %s", err, c.flag)
			}
		})
	}
}

// largeXattrs are attributes of 60,000 bytes each.
func largeXattrs(prefix string, n int) (kv []string) {
	for i := range n {
		kv = append(kv, fmt.Sprintf("user.%s%d", prefix, i), strings.Repeat(prefix, 60000))
	}
	return kv
}

func tinyXattrs(n int) (kv []string) {
	for i := range n {
		kv = append(kv, fmt.Sprint("user.", i), "")
	}
	return kv
}

// manyImplied holds files in n directories that nothing lists, deep down.
func manyImplied(n int) []byte {
	var src []byte
	for i := range n {
		src = append(src, paxHeader('x', "path", fmt.Sprintf("%s%d/f", deepDir, i))...)
		src = append(src, rawEntry('0', "x", "", nil)...)
	}
	return rawTar(src)
}

func sparsePieces(n int, gap int64) (list []sparsePiece) {
	for i := range n {
		list = append(list, sparsePiece{int64(i) * gap, "data"})
	}
	return list
}
