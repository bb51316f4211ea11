package archive

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/lithify/lithify/convert/inflate"
)

// maxWindow bounds the memory that a zstd frame may ask for, as zstd itself does.
const maxWindow = 128 << 20

// stream is a tar on its way out of its compression, under limits.
type stream struct {
	ctx    context.Context
	in     *counter
	out    io.Reader
	close  func()
	limits Limits
	n      int64  // bytes that came out
	at     string // the entry that is being read
}

// counter counts what is read, or written.
type counter struct {
	io.Reader
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

// newStream undoes gzip or zstd, known by the first bytes. close must be called.
func newStream(ctx context.Context, r io.Reader, limits Limits) (*stream, error) {
	s := &stream{ctx: ctx, in: &counter{Reader: r}, close: func() {}, limits: limits}
	br := bufio.NewReaderSize(s.in, 1<<20)
	s.out = br
	magic, err := br.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := inflate.NewReader(br)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		s.out, s.close = z, func() { z.Close() }
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}), len(magic) == 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:], []byte{0x2a, 0x4d, 0x18}):
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		s.out, s.close = z, z.Close
	}
	return s, nil
}

// Read fails when a limit is passed and when the context ends.
func (s *stream) Read(p []byte) (int, error) {
	if err := context.Cause(s.ctx); err != nil {
		return 0, err
	}
	n, err := s.out.Read(p)
	s.n += int64(n)
	if s.n > s.limits.Bytes {
		return 0, &LimitError{s.at, "bytes", s.limits.Bytes}
	}
	if s.n > ratioSlack && (s.n-ratioSlack)/s.limits.Ratio > s.in.n {
		return 0, &LimitError{s.at, "decompressed bytes for each compressed one", s.limits.Ratio}
	}
	return n, err
}

// trailer reads what follows the end of a tar, which must be nothing but zeros.
func (s *stream) trailer() error {
	buf := make([]byte, 32<<10)
	for {
		n, err := s.Read(buf)
		if bytes.Count(buf[:n], []byte{0}) != n {
			return refused(s.at, "data follows the end of the tar, which readers disagree about; write the archive anew")
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

const endOfTar = 1024 // zero bytes

// whole says whether a tar that was read up to there, from the end of its last entry, had
// the blocks that mark its end.
func (s *stream) whole(from int64) bool { return s.n-from >= endOfTar }
