package inflate_test

import (
	"bytes"
	"testing"
)

// FuzzDifferential compresses anything with any compressor and decodes it.
func FuzzDifferential(f *testing.F) {
	for _, data := range samples() {
		f.Add(data[:min(len(data), 2000)], uint8(8), uint16(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, with uint8, times uint16) {
		data = bytes.Repeat(data, 1+int(times)%(1+100_000/(1+len(data))))
		all := compressors()
		c := all[int(with)%len(all)]
		got, err := decode(bytes.NewReader(c.gzip(t, data)))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, want %d, or others; error %v", c.name, len(got), len(data), err)
		}
	})
}

// FuzzBroken gives us and the stdlib any bytes: as a stream, and as DEFLATE data
// behind a good header, with the right trailer if the stdlib finds an end.
func FuzzBroken(f *testing.F) {
	for _, c := range compressors() {
		f.Add(c.gzip(f, []byte("some data, data of some kind, and of some length, and zeros\x00\x00\x00\x00\x00")))
	}
	f.Add(fixed(literal('a'), match(5, 1)))
	f.Fuzz(func(t *testing.T, p []byte) {
		same(t, p)
		data, _ := stdlib(bytes.NewReader(member(p, nil)))
		same(t, member(p, data))
		same(t, append(member(p, data), make([]byte, 64)...))
	})
}
