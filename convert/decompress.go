package convert

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

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
func decompress(r io.Reader) (io.ReadCloser, error) {
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
		return &decoder{z, z}, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}), len(magic) == 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:], []byte{0x2a, 0x4d, 0x18}):
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.IgnoreChecksum(true))
		if err != nil {
			return nil, contentError(err)
		}
		return &decoder{z, z.IOReadCloser()}, nil
	}
	if name, ok := foreign(magic); ok {
		return nil, contentError(fmt.Errorf("it is %s; layers are plain tar, gzip or zstd", name))
	}
	return io.NopCloser(br), nil
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
