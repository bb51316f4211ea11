package convert

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"
	"github.com/lithify/lithify/convert/inflate"
)

// errContent marks what a decoder says of its input, as opposed to what a
// network says of its bytes.
var errContent = errors.New("it cannot be decompressed")

// maxWindow bounds the memory a zstd frame may ask for. zstd's own limit for
// decoders without --long is 128 MiB.
const maxWindow = 128 << 20

// decompress undoes a layer's compression. The first bytes decide and not the
// media type, as in containerd and Docker: images whose types are wrong are
// common and run everywhere.
//
// The frames' own checksums are not looked at: what comes in is compared with the
// blob's digest, and what comes out, of a layer, with its diffID.
func decompress(r io.Reader) (*decompressed, error) {
	br := bufio.NewReaderSize(r, 1<<20)
	magic, err := br.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := inflate.NewReader(br)
		if err != nil {
			return nil, contentError(err)
		}
		return &decompressed{ReadCloser: &decoder{z, z}, format: "gzip"}, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}), len(magic) == 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:], []byte{0x2a, 0x4d, 0x18}):
		size := frameSize(br)
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.IgnoreChecksum(true))
		if err != nil {
			return nil, contentError(err)
		}
		return &decompressed{&decoder{z, z.IOReadCloser()}, "zstd", size}, nil
	}
	if name, ok := foreign(magic); ok {
		return nil, contentError(fmt.Errorf("it is %s; layers are plain tar, gzip or zstd", name))
	}
	return &decompressed{ReadCloser: io.NopCloser(br)}, nil
}

// decompressed is what is in a blob.
type decompressed struct {
	io.ReadCloser
	format string // gzip, zstd, or empty for what was not compressed
	// size is what the blob itself says at its beginning, in bytes, 0 if nothing. It is no
	// more than a hint.
	size int64
}

// frameSize is the content size in the header of a first zstd frame, 0 if there is none.
func frameSize(br *bufio.Reader) int64 {
	head, _ := br.Peek(zstd.HeaderMaxSize)
	var h zstd.Header
	if h.Decode(head) != nil || !h.HasFCS || h.FrameContentSize > math.MaxInt64 {
		return 0
	}
	return int64(h.FrameContentSize)
}

// foreign names compressions that layers may not have, which would be taken for a
// broken tar.
func foreign(magic []byte) (string, bool) {
	for _, f := range []struct{ magic, name string }{{"\xfd7zX", "xz"}, {"BZh", "bzip2"}, {"\x04\x22\x4d\x18", "lz4"}} {
		if bytes.HasPrefix(magic, []byte(f.magic)) {
			return f.name, true
		}
	}
	return "", false
}

// decoder marks the errors of a decompressor.
type decoder struct {
	io.Reader
	io.Closer
}

func (d *decoder) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = contentError(err)
	}
	return n, err
}

func contentError(err error) error { return fmt.Errorf("%w: %w", errContent, err) }
