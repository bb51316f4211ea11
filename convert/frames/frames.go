// Package frames reads at random what lies in a file as zstd frames (RFC 8878).
//
//	r, err := frames.Open(file, size)
//	n, err := r.ReadAt(p, off) // off is in what the frames hold
//
// Frames are found by their headers, without decompressing any: it takes frames that say how
// large their content is, and that are not too large to be kept.
package frames

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/zstd"
)

// MaxContent is the most that one frame may hold, in bytes: as much of each frame that is
// used is in memory.
const MaxContent = 16 << 20

// maxPacked is the most that a frame may take in the file: a little more than it holds, where
// nothing was to be compressed.
const maxPacked = MaxContent + 64<<10

// kept is how many frames stay decompressed.
const kept = 8

// ErrNotRandom is of frames that would have to be read from the first on. It is an
// errdefs.ErrNotImplemented.
var ErrNotRandom = fmt.Errorf("zstd frames that cannot be read at random: %w", errdefs.ErrNotImplemented)

// Reader reads what a file's frames hold. It may be used from several goroutines.
type Reader struct {
	src   io.ReaderAt
	list  []frame
	total int64

	mu     sync.Mutex
	dec    *zstd.Decoder
	cached []content // the one used last at the end
	packed []byte
}

// frame is where one lies in the file, and what it holds in what all of them hold.
type frame struct {
	at, off    int64
	size, held int64
}

type content struct {
	frame int
	p     []byte
}

// Open looks for the frames in the first size bytes of src. The caller closes the Reader, and
// src after it.
func Open(src io.ReaderAt, size int64) (*Reader, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(MaxContent))
	if err != nil {
		return nil, err
	}
	r := &Reader{src: src, dec: dec}
	for at := int64(0); at < size; {
		f, err := r.scan(at, size)
		if err != nil {
			dec.Close()
			return nil, fmt.Errorf("zstd frame at byte %d: %w", at, err)
		}
		at += f.size
		if f.held == 0 {
			continue // skippable, or empty
		}
		f.off = r.total
		r.total += f.held
		r.list = append(r.list, f)
	}
	return r, nil
}

// Close gives back what decompressing takes.
func (r *Reader) Close() error {
	r.dec.Close()
	return nil
}

// Size is how many bytes all frames hold.
func (r *Reader) Size() int64 { return r.total }

// scan reads the headers of the frame at a byte and those of its blocks.
func (r *Reader) scan(at, size int64) (frame, error) {
	f := frame{at: at}
	var head [zstd.HeaderMaxSize]byte
	n := min(int64(len(head)), size-at)
	if _, err := r.src.ReadAt(head[:n], at); err != nil && err != io.EOF {
		return f, err
	}
	var h zstd.Header
	if err := h.Decode(head[:n]); err != nil {
		return f, err
	}
	if h.Skippable {
		f.size = int64(h.HeaderSize) + int64(h.SkippableSize)
		return f, within(f, size)
	}
	if !h.HasFCS || h.FrameContentSize > MaxContent {
		return f, ErrNotRandom
	}
	f.held, f.size = int64(h.FrameContentSize), int64(h.HeaderSize)
	for last := false; !last; {
		var b [4]byte
		if at+f.size+3 > size {
			return f, io.ErrUnexpectedEOF
		}
		if _, err := r.src.ReadAt(b[:3], at+f.size); err != nil && err != io.EOF {
			return f, err
		}
		block := binary.LittleEndian.Uint32(b[:])
		last = block&1 == 1
		f.size += 3
		switch block >> 1 & 3 {
		case 1: // one byte, to be repeated
			f.size++
		case 3:
			return f, errors.New("a block of no known type")
		default:
			f.size += int64(block >> 3)
		}
		if f.size > maxPacked {
			return f, fmt.Errorf("more than %d bytes, and it holds %d", maxPacked, f.held)
		}
	}
	if h.HasCheckSum {
		f.size += 4
	}
	return f, within(f, size)
}

// One gives how many bytes p holds, which has to be one frame and nothing else.
func One(p []byte) (int64, error) {
	f, err := (&Reader{src: bytes.NewReader(p)}).scan(0, int64(len(p)))
	switch {
	case err != nil:
		return 0, err
	case f.size < int64(len(p)):
		return 0, fmt.Errorf("%d bytes follow the frame", int64(len(p))-f.size)
	case binary.LittleEndian.Uint32(p) != frameMagic:
		return 0, errors.New("a skippable frame")
	}
	return f.held, nil
}

const frameMagic = 0xFD2FB528

func within(f frame, size int64) error {
	if f.at+f.size > size {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// ReadAt reads of what the frames hold.
func (r *Reader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("read before the beginning")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n < len(p) {
		if off >= r.total {
			return n, io.EOF
		}
		i, found := slices.BinarySearchFunc(r.list, off, func(f frame, off int64) int { return int(min(max(f.off-off, -1), 1)) })
		if !found {
			i--
		}
		c, err := r.content(i)
		if err != nil {
			return n, err
		}
		k := copy(p[n:], c[off-r.list[i].off:])
		n += k
		off += int64(k)
	}
	return n, nil
}

// content gives what a frame holds. It is valid until the next call.
func (r *Reader) content(i int) ([]byte, error) {
	for k, c := range r.cached {
		if c.frame == i {
			r.cached = append(slices.Delete(r.cached, k, k+1), c)
			return c.p, nil
		}
	}
	var buf []byte
	if len(r.cached) == kept {
		buf = r.cached[0].p[:0]
		r.cached = slices.Delete(r.cached, 0, 1)
	}
	f := r.list[i]
	r.packed = slices.Grow(r.packed[:0], int(f.size))[:f.size]
	if _, err := r.src.ReadAt(r.packed, f.at); err != nil && err != io.EOF {
		return nil, err
	}
	p, err := r.dec.DecodeAll(r.packed, buf)
	if err == nil && int64(len(p)) != f.held {
		err = fmt.Errorf("it holds %d bytes and says %d", len(p), f.held)
	}
	if err != nil {
		return nil, fmt.Errorf("zstd frame at byte %d: %w", f.at, err)
	}
	r.cached = append(r.cached, content{i, p})
	return p, nil
}
