package erofs

import (
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// frameBlob writes the image as zstd frames (RFC 8878), one for each piece. The
// first, block 0, is stored, so that it can be patched in place.
type frameBlob struct {
	dst    io.WriterAt
	enc    *zstd.Encoder
	queue  chan *frame // nil in serial mode
	done   chan struct{}
	failed atomic.Bool
	err    error // valid once done is closed, as what follows
	end    int64
	starts map[int64]int64 // of frames: offset in the image to offset in the blob
	spare  chan []byte
}

// frame is a piece on its way through compression.
type frame struct {
	piece
	out   []byte
	ready chan struct{}
}

// maxCompressors bounds the memory of a conversion: each holds about 6 MiB.
const maxCompressors = 4

func newFrameBlob(dst io.WriterAt, serial bool) (*frameBlob, error) {
	n := min(runtime.GOMAXPROCS(0), maxCompressors)
	if serial {
		n = 1
	}
	// The frames' checksums make reading them back for ImageDigest a proof of
	// compression and decompression.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(n), zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithSingleSegment(true), zstd.WithEncoderCRC(true), zstd.WithWindowSize(outChunk))
	if err != nil {
		return nil, err
	}
	w := &frameBlob{dst: dst, enc: enc, starts: map[int64]int64{}, spare: make(chan []byte, n+1)}
	if serial {
		return w, nil
	}
	w.queue, w.done = make(chan *frame, n), make(chan struct{})
	go func() {
		defer close(w.done)
		for f := range w.queue {
			<-f.ready
			w.write(f)
		}
	}()
	return w, nil
}

func (w *frameBlob) takesAny() bool { return false }

// put starts the compression of a piece; the queue bounds how many run. The
// goroutine that writes waits for each.
func (w *frameBlob) put(pc piece) error {
	f := &frame{piece: pc}
	if w.queue == nil {
		w.compress(f)
		w.write(f)
		return w.err
	}
	f.ready = make(chan struct{})
	go func() {
		defer close(f.ready)
		w.compress(f)
	}()
	w.queue <- f
	if w.failed.Load() {
		return errStopped
	}
	return nil
}

func (w *frameBlob) compress(f *frame) {
	defer f.c.release()
	if f.off == 0 {
		f.out = storedFrame(f.p)
		return
	}
	var buf []byte
	select {
	case buf = <-w.spare:
	default:
	}
	f.out = w.enc.EncodeAll(f.p, buf[:0])
}

func (w *frameBlob) write(f *frame) {
	if w.err != nil {
		return
	}
	if _, err := w.dst.WriteAt(f.out, w.end); err != nil {
		w.err = fmt.Errorf("write image: %w", err)
		w.failed.Store(true)
	}
	w.starts[f.off] = w.end
	w.end += int64(len(f.out))
	select {
	case w.spare <- f.out:
	default:
	}
}

func (w *frameBlob) finish() error {
	if w.queue != nil {
		close(w.queue)
		<-w.done
	}
	return w.err
}

func (w *frameBlob) patch(head []byte) error {
	_, err := w.dst.WriteAt(head, storedHeader)
	return err
}

func (w *frameBlob) blobOffset(off int64) int64 { return w.starts[off] }
func (w *frameBlob) size() int64                { return w.end }

// storedHeader is the size of what precedes the bytes in a stored frame.
const storedHeader = 4 + 1 + 2 + 3

// storedFrame is one block of p as one raw block in one frame: magic number;
// descriptor: two bytes of content size, single segment, no checksum; content
// size less 256; block header: last, raw, size.
func storedFrame(p []byte) []byte {
	b := make([]byte, 0, storedHeader+len(p))
	b = binary.LittleEndian.AppendUint32(b, 0xFD2FB528)
	b = append(b, 1<<6|1<<5)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(p)-256))
	head := uint32(len(p))<<3 | 1
	b = append(b, byte(head), byte(head>>8), byte(head>>16))
	return append(b, p...)
}
