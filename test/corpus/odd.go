package corpus

import (
	"archive/tar"
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"
)

// oddVersion changes whenever the bytes of the odd layer do.
const oddVersion = 1

func odd(_ context.Context, _, to string) (string, error) {
	f, err := os.Create(to)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := bufio.NewWriter(f)
	if err := WriteOdd(b); err != nil {
		return "", err
	}
	if err := b.Flush(); err != nil {
		return "", err
	}
	return "written by test/corpus/odd.go", f.Close()
}

// oddTime has nanoseconds.
var oddTime = time.Unix(1_700_000_000, 123_456_789)

// WriteOdd writes a tar with every kind of entry that a layer may hold. Its bytes
// are the same each time.
func WriteOdd(to io.Writer) error {
	o := &oddWriter{out: to, tar: tar.NewWriter(to)}
	for _, part := range []func(){
		o.plain, o.modes, o.times, o.names, o.deep, o.links, o.special, o.attributes,
		o.whiteouts, o.implicit, o.duplicates, o.sparse,
	} {
		part()
	}
	return o.close()
}

// oddWriter keeps the first error.
type oddWriter struct {
	out io.Writer
	tar *tar.Writer
	err error
}

// add writes one entry, with defaults for what h leaves out.
func (o *oddWriter) add(h tar.Header, content string) {
	if o.err != nil {
		return
	}
	if h.Format == tar.FormatUnknown {
		h.Format = tar.FormatPAX
	}
	if h.Typeflag == 0 {
		h.Typeflag = tar.TypeReg
	}
	if h.ModTime.IsZero() {
		h.ModTime = oddTime
	}
	if h.Format != tar.FormatPAX {
		h.ModTime = h.ModTime.Truncate(time.Second)
	}
	h.Size = int64(len(content))
	if o.err = o.tar.WriteHeader(&h); o.err == nil {
		_, o.err = io.WriteString(o.tar, content)
	}
	if o.err != nil {
		o.err = fmt.Errorf("%.40q: %w", h.Name, o.err)
	}
}

func (o *oddWriter) dir(name string, mode int64) {
	o.add(tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: mode}, "")
}

func (o *oddWriter) file(name, content string) { o.add(tar.Header{Name: name, Mode: 0o644}, content) }

// raw writes bytes that archive/tar's writer does not make.
func (o *oddWriter) raw(b []byte) {
	if o.err == nil {
		o.err = o.tar.Flush()
	}
	if o.err == nil {
		_, o.err = o.out.Write(b)
	}
}

func (o *oddWriter) close() error {
	if o.err != nil {
		return o.err
	}
	return o.tar.Close()
}

// plain are files of every size about a block's.
func (o *oddWriter) plain() {
	o.add(tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	o.dir("plain", 0o755)
	for _, n := range []int{0, 1, 511, 512, 513, 4095, 4096, 4097, 8192, 65536, 1 << 20, 1<<20 + 1} {
		o.file(fmt.Sprintf("plain/%d", n), strings.Repeat("lithify\n", n/8+1)[:n])
	}
	o.add(tar.Header{Name: "plain/zero", Mode: 0o600}, strings.Repeat("\x00", 1<<20))
	o.add(tar.Header{Name: "plain/ustar", Mode: 0o644, Format: tar.FormatUSTAR}, "u")
	o.add(tar.Header{Name: "plain/gnu", Mode: 0o644, Format: tar.FormatGNU}, "g")
	o.add(tar.Header{Name: "plain/old", Typeflag: '\x00', Mode: 0o644, Format: tar.FormatUSTAR}, "old type flag")
	o.add(tar.Header{Name: "plain/contiguous", Typeflag: '7', Mode: 0o644}, "type flag 7")
}

func (o *oddWriter) modes() {
	o.dir("modes", 0o755)
	for _, m := range []int64{0, 0o400, 0o4755, 0o2755, 0o1755, 0o6711, 0o7777, 0o777} {
		o.add(tar.Header{Name: fmt.Sprintf("modes/f%04o", m), Mode: m}, "x")
		o.dir(fmt.Sprintf("modes/d%04o", m), m)
	}
	for _, id := range []int{1, 65534, 65535, 65536, 2097151, 2097152, math.MaxInt32, math.MaxUint32 - 1} {
		o.add(tar.Header{Name: fmt.Sprintf("modes/id%d", id), Mode: 0o644, Uid: id, Gid: id}, "x")
	}
	o.add(tar.Header{Name: "modes/uid-only", Mode: 0o644, Uid: 1000}, "x")
	o.add(tar.Header{Name: "modes/gid-only", Mode: 0o644, Gid: 1000, Uname: "nobody-there", Gname: "none"}, "x")
}

func (o *oddWriter) times() {
	o.dir("times", 0o755)
	for _, s := range []int64{0, 1, math.MaxInt32, math.MaxInt32 + 1, math.MaxUint32, math.MaxUint32 + 1, 8_589_934_591, 8_589_934_592} {
		o.add(tar.Header{Name: fmt.Sprintf("times/%d", s), Mode: 0o644, ModTime: time.Unix(s, 0)}, "t")
		o.add(tar.Header{Name: fmt.Sprintf("times/%d.ns", s), Mode: 0o644, ModTime: time.Unix(s, 999_999_999)}, "t")
	}
	o.add(tar.Header{Name: "times/dir/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(5_000_000_000, 1)}, "")
	o.file("times/dir/younger", "t")
	o.add(tar.Header{Name: "times/before-1970", Mode: 0o644, ModTime: time.Unix(-1_000_000, 500)}, "t")
}

func (o *oddWriter) names() {
	o.dir("names", 0o755)
	for _, n := range []string{
		"new\nline", "tab\tand space ", " leading", "ünïcödé", "日本語", "emoji-\U0001f30b", "back\\slash", "quote'\"", "-dash", "*?[", "...",
		"not-utf8-\xff\xfe", strings.Repeat("n", 255), strings.Repeat("é", 127), ".whisky", "a.wh.b", "\x01\x7f",
	} {
		o.file("names/"+n, n)
	}
	o.add(tar.Header{Name: "names/" + strings.Repeat("g", 200), Mode: 0o644, Format: tar.FormatGNU}, "GNU long name")
	o.add(tar.Header{Name: strings.Repeat("p", 5) + "/" + strings.Repeat("u", 90), Mode: 0o644, Format: tar.FormatUSTAR}, "")
	o.file("././names//twisted/./file", "cleaned")
}

// deep is a path of 1,500 bytes, and a directory with many entries.
func (o *oddWriter) deep() {
	o.file("deep/"+strings.Repeat(strings.Repeat("d", 99)+"/", 14)+"ninety-five"+strings.Repeat("e", 84), "deep")
	o.dir("many", 0o755)
	for i := range 3000 {
		o.file(fmt.Sprintf("many/%04d", (i*7919)%3000), fmt.Sprint(i))
	}
}

func (o *oddWriter) links() {
	o.dir("links", 0o755)
	symlink := func(name, to string) {
		o.add(tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to, Mode: 0o777}, "")
	}
	hard := func(name, to string) {
		o.add(tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to, Mode: 0o644}, "")
	}
	symlink("links/sym", "../plain/4096")
	symlink("links/dangling", "/no/such/thing")
	symlink("links/4000", strings.Repeat("x", 4000))
	symlink("links/4095", strings.Repeat("/y", 2047)+"z")
	symlink("links/utf8", "日本語\n")
	o.file("links/target", "linked\n")
	hard("links/hard1", "links/target")
	hard("links/hard2", "links/hard1") // a chain
	hard("links/hard3", "./links/hard2")
	hard("links/to-symlink", "links/sym")
	o.file("links/empty", "")
	hard("links/to-empty", "links/empty")
	o.add(tar.Header{Name: "links/fifo", Typeflag: tar.TypeFifo, Mode: 0o600}, "")
	hard("links/to-fifo", "links/fifo")
	o.dir("links/sub", 0o755)
	hard("links/sub/hard4", "links/target")
	for i := range 100 {
		hard(fmt.Sprintf("links/sub/n%d", i), "links/hard3")
	}
}

func (o *oddWriter) special() {
	o.dir("special", 0o755)
	o.add(tar.Header{Name: "special/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}, "")
	o.add(tar.Header{Name: "special/block", Typeflag: tar.TypeBlock, Mode: 0o660, Gid: 6, Devmajor: 8, Devminor: 1}, "")
	o.add(tar.Header{Name: "special/large", Typeflag: tar.TypeChar, Mode: 0o600, Devmajor: 4095, Devminor: 0xfffff}, "")
	o.add(tar.Header{Name: "special/fifo", Typeflag: tar.TypeFifo, Mode: 0o640, Uid: 7}, "")
	o.add(tar.Header{Name: "special/fifo-setuid", Typeflag: tar.TypeFifo, Mode: 0o4640}, "")
}
