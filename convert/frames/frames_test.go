package frames_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"github.com/lithify/lithify/convert/frames"
)

// packed is content as frames of all kinds: compressed, stored, empty, of one byte, skippable.
func packed(t *testing.T) (blob, content []byte) {
	t.Helper()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(true), zstd.WithSingleSegment(true), zstd.WithZeroFrames(true))
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 30_000)
	rnd := rand.NewChaCha8([32]byte{1})
	rnd.Read(noise)
	for _, p := range [][]byte{noise[:4096], bytes.Repeat([]byte("lithify"), 10_000), {}, {7}, make([]byte, 50_000), noise} {
		content = append(content, p...)
		blob = enc.EncodeAll(p, blob)
		blob = append(blob, 0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'x', 'y', 'z')
	}
	return blob, content
}

func TestReadAt(t *testing.T) {
	blob, content := packed(t)
	r, err := frames.Open(bytes.NewReader(blob), int64(len(blob)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.Size() != int64(len(content)) {
		t.Fatalf("%d bytes, want %d", r.Size(), len(content))
	}
	if err := iotest.TestReader(io.NewSectionReader(r, 0, r.Size()), content); err != nil {
		t.Error(err)
	}
	for range 200 {
		off := rand.IntN(len(content))
		p := make([]byte, rand.IntN(len(content)-off+1))
		if n, err := r.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p[:n], content[off:off+len(p)]) {
			t.Fatalf("%d bytes at %d: %d, %v", len(p), off, n, err)
		}
	}
	if n, err := r.ReadAt(make([]byte, 10), r.Size()-4); n != 4 || err != io.EOF {
		t.Errorf("over the end: %d, %v", n, err)
	}
}

// TestDamaged changes and cuts a blob everywhere: what is read then is an error or what it was.
func TestDamaged(t *testing.T) {
	blob, content := packed(t)
	read := func(b []byte) {
		t.Helper()
		r, err := frames.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		defer r.Close()
		got, err := io.ReadAll(io.NewSectionReader(r, 0, min(r.Size(), int64(len(content)))))
		if err == nil && len(got) == len(content) && !bytes.Equal(got, content) {
			t.Error("other bytes without an error")
		}
	}
	for range 60 {
		b := bytes.Clone(blob)
		b[rand.IntN(len(b))] ^= 1 << rand.IntN(8)
		read(b)
	}
	if _, err := frames.Open(bytes.NewReader(blob), int64(len(blob)-12)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: %v", err)
	}
}

// TestNotRandom has a frame that does not say how much it holds, as streams have them, and one
// that holds too much.
func TestNotRandom(t *testing.T) {
	var stream bytes.Buffer
	enc, err := zstd.NewWriter(&stream)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := enc.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	large := enc.EncodeAll(make([]byte, frames.MaxContent+1), nil)
	for name, b := range map[string][]byte{"stream": stream.Bytes(), "large": large} {
		if _, err := frames.Open(bytes.NewReader(b), int64(len(b))); !errors.Is(err, frames.ErrNotRandom) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPadded has a frame of many blocks that are there to be read into memory: it says that it
// holds one byte.
// TestOne takes one frame, and neither none, nor two, nor half of one, nor a skippable one.
func TestOne(t *testing.T) {
	enc, err := zstd.NewWriter(nil, zstd.WithSingleSegment(true))
	if err != nil {
		t.Fatal(err)
	}
	one := enc.EncodeAll([]byte("lithify"), nil)
	if n, err := frames.One(one); n != 7 || err != nil {
		t.Errorf("one: %d, %v", n, err)
	}
	for name, p := range map[string][]byte{
		"none": {}, "two": append(bytes.Clone(one), one...), "half": one[:len(one)-1], "more": append(bytes.Clone(one), 0),
		"skippable": {0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 7}, "noise": []byte("lithify, lithify"),
	} {
		if n, err := frames.One(p); err == nil {
			t.Errorf("%s: taken as one frame of %d bytes", name, n)
		}
	}
}

func TestPadded(t *testing.T) {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 1}
	for range 140 {
		b = append(b, 0, 0, 0x10) // a raw block of 128 KiB, not the last one
		b = append(b, make([]byte, 128<<10)...)
	}
	b = append(b, 1, 0, 0)
	if _, err := frames.Open(bytes.NewReader(b), int64(len(b))); err == nil || !strings.Contains(err.Error(), "it holds 1") {
		t.Errorf("got %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(enc.EncodeAll([]byte("a"), enc.EncodeAll(bytes.Repeat([]byte("b"), 10_000), nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := frames.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		defer r.Close()
		// The frames alone decide how much it is.
		io.Copy(io.Discard, io.NewSectionReader(r, 0, min(r.Size(), 1<<26)))
	})
}
