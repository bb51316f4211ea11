package inflate_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	kgzip "github.com/klauspost/compress/gzip"

	"github.com/lithify/lithify/convert/inflate"
)

// samples are data of every kind a decoder treats in a way of its own.
func samples() map[string][]byte {
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(n, symbols int) []byte {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(rng.IntN(symbols))
		}
		return p
	}
	m := map[string][]byte{
		"empty":   nil,
		"byte":    {7},
		"random":  random(300_000, 256),
		"skewed":  random(300_000, 5),
		"nibbles": random(300_000, 16),
		"zeros":   make([]byte, 700_000),
		"text":    []byte(strings.Repeat("the quick brown fox; ", 30_000)),
	}
	for d := 1; d <= 40; d++ {
		m[fmt.Sprint("period ", d)] = append(random(100, 256), bytes.Repeat(random(d, 256), 2000)...)
	}
	for _, gap := range []int{32767, 32768, 32769} {
		head := random(200, 256)
		m[fmt.Sprint("window ", gap)] = slices.Concat(head, random(gap-200, 256), head, random(300_000, 256), head)
	}
	var mixed []byte
	for range 3000 {
		switch n := rng.IntN(600); rng.IntN(3) {
		case 0:
			mixed = append(mixed, random(n, 1+rng.IntN(255))...)
		case 1:
			mixed = append(mixed, bytes.Repeat(random(1+rng.IntN(20), 256), n/8)...)
		case 2:
			at := rng.IntN(len(mixed) + 1)
			mixed = append(mixed, mixed[at:min(len(mixed), at+n)]...)
		}
	}
	m["mixed"] = mixed
	return m
}

type compressor struct {
	name string
	make func(w io.Writer) io.WriteCloser
}

func compressors() (all []compressor) {
	for level := gzip.HuffmanOnly; level <= gzip.BestCompression; level++ {
		all = append(all, compressor{fmt.Sprint("stdlib ", level), func(w io.Writer) io.WriteCloser {
			z, _ := gzip.NewWriterLevel(w, level)
			return z
		}})
	}
	for level := kgzip.StatelessCompression; level <= kgzip.BestCompression; level++ {
		all = append(all, compressor{fmt.Sprint("klauspost ", level), func(w io.Writer) io.WriteCloser {
			z, _ := kgzip.NewWriterLevel(w, level)
			return z
		}})
	}
	return all
}

func (c compressor) gzip(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := c.make(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// level6 is the stdlib's default.
func level6(t testing.TB, data []byte) []byte {
	return compressor{make: func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }}.gzip(t, data)
}

func decode(r io.Reader) ([]byte, error) {
	z, err := inflate.NewReader(r)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(struct{ io.Reader }{z})
}

func stdlib(r io.Reader) ([]byte, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

// same checks that we take what the stdlib takes, with the same bytes, and refuse
// what it refuses, with bytes that do not contradict it.
func same(t testing.TB, stream []byte) {
	t.Helper()
	want, wantErr := stdlib(bytes.NewReader(stream))
	for _, r := range []io.Reader{bytes.NewReader(stream), iotest.OneByteReader(bytes.NewReader(stream))} {
		got, err := decode(r)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("error %v, want %v, stream %x", err, wantErr, stream)
		}
		if err == nil && !bytes.Equal(got, want) {
			t.Fatalf("other bytes, stream %x", stream)
		}
		if n := min(len(got), len(want)); !bytes.Equal(got[:n], want[:n]) {
			t.Fatalf("other bytes before the error %v, want %v, stream %x", err, wantErr, stream)
		}
	}
}

func TestDecodesWhatCompressorsWrite(t *testing.T) {
	for name, data := range samples() {
		t.Run(name, func(t *testing.T) {
			for _, c := range compressors() {
				got, err := decode(bytes.NewReader(c.gzip(t, data)))
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s: %d bytes, want %d, or others; error %v", c.name, len(got), len(data), err)
				}
			}
		})
	}
}

func TestWriteTo(t *testing.T) {
	for name, data := range samples() {
		z, err := inflate.NewReader(bytes.NewReader(level6(t, data)))
		if err != nil {
			t.Fatal(err)
		}
		head := make([]byte, min(10, len(data)))
		if _, err := io.ReadFull(z, head); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		n, err := z.WriteTo(&b)
		if err != nil || n != int64(b.Len()) || !bytes.Equal(append(head, b.Bytes()...), data) {
			t.Errorf("%s: %d of %d bytes, or others; error %v", name, n, len(data), err)
		}
	}
}

func TestWriteToStopsAtWritersError(t *testing.T) {
	z, err := inflate.NewReader(bytes.NewReader(level6(t, make([]byte, 1<<20))))
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	r.Close()
	if n, err := z.WriteTo(w); n != 0 || err != io.ErrClosedPipe {
		t.Errorf("%d, %v, want 0, %v", n, err, io.ErrClosedPipe)
	}
}

func TestReadersOfAllSizes(t *testing.T) {
	data := samples()["mixed"]
	stream := level6(t, data)
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"one byte": iotest.OneByteReader,
		"half":     iotest.HalfReader,
		"data err": iotest.DataErrReader,
		"both":     func(r io.Reader) io.Reader { return iotest.DataErrReader(iotest.OneByteReader(r)) },
	} {
		if got, err := decode(wrap(bytes.NewReader(stream))); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, want %d, or others; error %v", name, len(got), len(data), err)
		}
	}
	z, err := inflate.NewReader(bytes.NewReader(stream))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(iotest.OneByteReader(z))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("read by the byte: %d bytes, want %d, or others; error %v", len(got), len(data), err)
	}
}

func TestReadersErrorIsKept(t *testing.T) {
	stream := level6(t, samples()["mixed"])
	broken := errors.New("broken line")
	for _, n := range []int{0, 5, 11, 100, len(stream) - 3} {
		_, err := decode(io.MultiReader(bytes.NewReader(stream[:n]), iotest.ErrReader(broken)))
		if err != broken {
			t.Errorf("after %d bytes: %v, want %v", n, err, broken)
		}
	}
	if _, err := decode(noProgress{}); err != io.ErrNoProgress {
		t.Errorf("%v, want %v", err, io.ErrNoProgress)
	}
}

type noProgress struct{}

func (noProgress) Read([]byte) (int, error) { return 0, nil }

func TestMembers(t *testing.T) {
	var stream, want []byte
	for name, data := range samples() {
		stream = append(stream, level6(t, data)...)
		stream = append(stream, level6(t, []byte(name))...)
		want = append(append(want, data...), name...)
	}
	got, err := decode(bytes.NewReader(stream))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d, or others; error %v", len(got), len(want), err)
	}
}

// TestMemberHasNoHistory: a member's distances end at its start.
func TestMemberHasNoHistory(t *testing.T) {
	first := level6(t, []byte("some history"))
	second := member(fixed(literal('a'), match(3, 5)), nil)
	same(t, second)
	same(t, append(first, second...))
	if _, err := decode(bytes.NewReader(append(first, second...))); !errors.As(err, new(inflate.CorruptError)) {
		t.Errorf("%v, want a CorruptError", err)
	}
}

func TestAfterTheLastMember(t *testing.T) {
	stream := level6(t, []byte("abc"))
	for _, tail := range []string{"\x00", "garbage!", "garbage that is longer", "\x1f\x8b", strings.Repeat("\x00", 512)} {
		same(t, append(slices.Clone(stream), tail...))
	}
	_, err := decode(bytes.NewReader(append(stream, "garbage that is longer"...)))
	if !errors.Is(err, inflate.ErrHeader) {
		t.Errorf("%v, want %v", err, inflate.ErrHeader)
	}
}

func TestHeaders(t *testing.T) {
	head := func(flags byte, rest ...string) []byte {
		h := append([]byte{0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 3}, strings.Join(rest, "")...)
		return h
	}
	withCRC := func(h []byte) []byte {
		return binary.LittleEndian.AppendUint16(h, uint16(crc32.ChecksumIEEE(h)))
	}
	body := level6(t, []byte("body"))[10:]
	long := strings.Repeat("n", 511)
	for name, h := range map[string][]byte{
		"extra":        head(4, "\x03\x00abc"),
		"no extra":     head(4, "\x00\x00"),
		"name":         head(8, "name\x00"),
		"comment":      head(16, "c\x00"),
		"all":          withCRC(head(31, "\x01\x00x", "n\x00", "c\x00")),
		"crc":          withCRC(head(2)),
		"wrong crc":    head(2, "xx"),
		"long name":    head(8, long, "\x00"),
		"longer name":  head(8, long, "n\x00"),
		"wrong magic":  append([]byte{0x1f, 0x8c}, head(0)[2:]...),
		"wrong method": append([]byte{0x1f, 0x8b, 7}, head(0)[3:]...),
		"reserved":     head(0xe0),
	} {
		t.Run(name, func(t *testing.T) {
			stream := append(h, body...)
			same(t, stream)
			for i := 0; i < len(stream); i += stride(7) {
				same(t, stream[:i])
			}
		})
	}
	if _, err := inflate.NewReader(strings.NewReader("")); err != io.EOF {
		t.Errorf("no input: %v, want %v", err, io.EOF)
	}
	if _, err := inflate.NewReader(strings.NewReader("\x1f\x8b\x08")); err != io.ErrUnexpectedEOF {
		t.Errorf("part of a header: %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

// small streams with a stored, fixed and dynamic block each.
func smallStreams(t *testing.T) map[string][]byte {
	text := []byte(strings.Repeat("abcdeabcdf", 10) + "The dynamic block wants some variety: 0123456789, and zeros\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	m := map[string][]byte{"members": slices.Concat(level6(t, []byte("one")), level6(t, text))}
	for _, c := range compressors() {
		m[c.name] = c.gzip(t, text)
	}
	return m
}

// stride is 1, but n in the short lane, which takes every nth case.
func stride(n int) int {
	if testing.Short() {
		return n
	}
	return 1
}

func TestEveryTruncation(t *testing.T) {
	for name, stream := range smallStreams(t) {
		t.Run(name, func(t *testing.T) {
			for i := 0; i < len(stream); i += stride(7) {
				same(t, stream[:i])
			}
		})
	}
	stream := level6(t, samples()["mixed"])
	for i := 10; i < len(stream); i += 1 + len(stream)/200 {
		if _, err := decode(bytes.NewReader(stream[:i])); err != io.ErrUnexpectedEOF {
			t.Errorf("%d of %d bytes: %v, want %v", i, len(stream), err, io.ErrUnexpectedEOF)
		}
	}
}

func TestEveryBitFlip(t *testing.T) {
	for name, stream := range smallStreams(t) {
		t.Run(name, func(t *testing.T) {
			for i := 0; i < len(stream)*8; i += stride(13) {
				stream[i/8] ^= 1 << (i % 8)
				same(t, stream)
				stream[i/8] ^= 1 << (i % 8)
			}
		})
	}
}

// TestFlipsInFastLoop flips bits of a stream that the fast loop decodes.
func TestFlipsInFastLoop(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	mixed := samples()["mixed"][:60_000]
	for _, c := range compressors() {
		stream := c.gzip(t, mixed)
		for range 40 {
			i := rng.IntN(len(stream) * 8)
			stream[i/8] ^= 1 << (i % 8)
			same(t, stream)
			stream[i/8] ^= 1 << (i % 8)
		}
	}
}

func TestChecksumAndSize(t *testing.T) {
	stream := level6(t, []byte("some data"))
	for i := len(stream) - 8; i < len(stream); i++ {
		broken := slices.Clone(stream)
		broken[i]++
		z, err := inflate.NewReader(bytes.NewReader(broken))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, z); err != inflate.ErrChecksum {
			t.Errorf("byte %d: %v, want %v", i, err, inflate.ErrChecksum)
		}
		if err := z.Close(); err != inflate.ErrChecksum {
			t.Errorf("close: %v, want %v", err, inflate.ErrChecksum)
		}
	}
}

func TestCorruptErrorSaysWhere(t *testing.T) {
	stream := compressors()[2].gzip(t, samples()["random"]) // level 0: stored blocks
	second := 10 + 5 + int(binary.LittleEndian.Uint16(stream[11:]))
	stream[second] = 3 << 1 // no kind of block
	_, err := decode(bytes.NewReader(stream))
	if want := inflate.CorruptError(second + 1); err != want {
		t.Errorf("%v, want %v", err, want)
	}
}
