package erofs

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"
)

const (
	tarBlock = 512
	// inChunk is a multiple of tarBlock, so that headers never straddle chunks.
	// 256 KiB stays in the second-level cache between the stages.
	inChunk  = 256 << 10
	inChunks = 12
)

// errTruncated is a tar that ends inside an entry.
var errTruncated = io.ErrUnexpectedEOF

// input is the tar as the parser sees it: chunks that a reader goroutine fills
// and a hash goroutine digests at the same time.
type input struct {
	ctx      context.Context
	src      io.Reader
	pool     *chunkPool
	sum      hash.Hash // nil: not wanted
	limits   Limits
	progress func(int64)
	copy     func(*chunk) error // of every chunk, before it is parsed; nil: none

	// Both nil in serial mode.
	parse, digest chan *chunk
	done          chan struct{} // closed after both goroutines
	stop          chan struct{} // closed to end the reader early
	readErr       error         // valid after parse is closed, or in serial mode

	cur  *chunk
	rest []byte // of cur, not yet consumed
	pos  int64  // bytes consumed
	read int64  // bytes in chunks received
}

func newInput(ctx context.Context, src io.Reader, opts Options) *input {
	in := &input{ctx: ctx, src: src, limits: opts.Limits, progress: opts.Progress}
	if !opts.Unhashed {
		in.sum = sha256.New()
	}
	if opts.Serial {
		in.pool = newChunkPool(1, inChunk)
		return in
	}
	in.pool = newChunkPool(inChunks, inChunk)
	in.parse = make(chan *chunk, inChunks)
	in.digest = make(chan *chunk, inChunks)
	in.done = make(chan struct{})
	in.stop = make(chan struct{})
	go in.fillAll()
	return in
}

// fillAll is the reader goroutine; it waits for the hash goroutine.
func (in *input) fillAll() {
	defer close(in.done)
	hashed := make(chan struct{})
	go func() {
		defer close(hashed)
		for c := range in.digest {
			in.sum.Write(c.buf)
			c.release()
		}
	}()
	defer func() { <-hashed }()
	defer close(in.digest)
	defer close(in.parse)
	for {
		var c *chunk
		select {
		case <-in.stop:
			return
		case c = <-in.pool.free:
		}
		c = in.pool.open(c)
		err := in.fill(c)
		if len(c.buf) == 0 {
			c.release()
		} else {
			if in.sum != nil {
				c.retain()
				in.digest <- c
			}
			in.parse <- c
		}
		if err != nil {
			in.readErr = err
			return
		}
	}
}

// fill reads one chunk; every one but the last is full. An error comes together
// with the bytes before it.
func (in *input) fill(c *chunk) (err error) {
	n, empty := 0, 0
	for n < len(c.buf) {
		if err = in.ended(); err != nil {
			break
		}
		var k int
		k, err = in.src.Read(c.buf[n:])
		n += k
		if err != nil {
			break
		}
		if empty++; k > 0 {
			empty = 0
		}
		if empty == maxEmptyReads {
			err = io.ErrNoProgress
			break
		}
	}
	c.buf = c.buf[:n]
	return err
}

// maxEmptyReads is bufio's.
const maxEmptyReads = 100

// ended is asked before each Read, which may wait for a slow network.
func (in *input) ended() error {
	select {
	case <-in.stop:
		return io.ErrClosedPipe // which nobody will see
	default:
		return context.Cause(in.ctx)
	}
}

// next moves on to the next chunk; io.EOF at the end of the tar.
func (in *input) next() error {
	if in.cur != nil {
		in.cur.release()
		in.cur, in.rest = nil, nil
	}
	if err := context.Cause(in.ctx); err != nil {
		return err
	}
	c, err := in.receive()
	if err != nil {
		return err
	}
	in.cur, in.rest = c, c.buf
	in.read += int64(len(c.buf))
	if in.progress != nil {
		in.progress(in.read)
	}
	if in.read > in.limits.Bytes {
		return in.limits.bytesError()
	}
	if in.copy != nil {
		return in.copy(c)
	}
	return nil
}

func (in *input) receive() (*chunk, error) {
	if in.parse != nil {
		c, ok := <-in.parse
		if !ok {
			return nil, readError(in.readErr)
		}
		return c, nil
	}
	if in.readErr != nil {
		return nil, readError(in.readErr)
	}
	c := in.pool.take()
	in.readErr = in.fill(c)
	if len(c.buf) == 0 {
		c.release()
		return nil, readError(in.readErr)
	}
	if in.sum != nil {
		in.sum.Write(c.buf)
	}
	return c, nil
}

func readError(err error) error {
	if err == io.EOF {
		return err
	}
	return fmt.Errorf("read layer: %w", err)
}

// block gives the next header block, valid until the next call of any method.
// It gives io.EOF where the tar ends at a block border.
func (in *input) block() (*[tarBlock]byte, error) {
	if len(in.rest) == 0 {
		if err := in.next(); err != nil {
			return nil, err
		}
	}
	if len(in.rest) < tarBlock {
		return nil, in.cut()
	}
	b := (*[tarBlock]byte)(in.rest)
	in.rest = in.rest[tarBlock:]
	in.pos += tarBlock
	return b, nil
}

// cut tells why the last chunk is no multiple of a block: the tar is truncated,
// or reading it failed.
func (in *input) cut() error {
	if err := in.next(); err != io.EOF {
		return err
	}
	return errTruncated
}

// data hands out the next n bytes in pieces of the current chunk.
func (in *input) data(n int64, f func(p []byte, c *chunk) error) error {
	for n > 0 {
		if len(in.rest) == 0 {
			if err := in.next(); err == io.EOF {
				return errTruncated
			} else if err != nil {
				return err
			}
		}
		p := in.rest[:min(n, int64(len(in.rest)))]
		in.rest = in.rest[len(p):]
		in.pos += int64(len(p))
		n -= int64(len(p))
		if err := f(p, in.cur); err != nil {
			return err
		}
	}
	return nil
}

func (in *input) skip(n int64) error {
	return in.data(n, func([]byte, *chunk) error { return nil })
}

// pad passes over what fills n bytes of data up to a whole block. The tar may end
// there: archive/tar, and so containerd, reads layers whose writer was never
// closed, and umoci makes such.
func (in *input) pad(n int64) error {
	if err := in.skip(padding(n)); err != errTruncated {
		return err
	}
	return nil
}

// drain reads to the end of the tar, which is part of its digest.
func (in *input) drain() error {
	for {
		in.pos += int64(len(in.rest))
		if err := in.next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// close ends the goroutines. Unless drain succeeded there is no digest.
func (in *input) close() {
	if in.cur != nil {
		in.cur.release()
		in.cur, in.rest = nil, nil
	}
	if in.parse == nil {
		return
	}
	close(in.stop)
	for c := range in.parse {
		c.release()
	}
	<-in.done
}

// tarDigest is valid after drain and close.
func (in *input) tarDigest() digest.Digest {
	return digest.NewDigest(digest.SHA256, in.sum)
}
