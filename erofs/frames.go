package erofs

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// frameBlob writes the image as zstd frames (RFC 8878), one for each piece, and
// behind them their index. The first, block 0, is stored, so that it can be patched in
// place.
type frameBlob struct {
	dst    io.WriterAt
	enc    *zstd.Encoder
	queue  chan *frame // nil in serial mode
	done   chan struct{}
	failed atomic.Bool
	err    error // valid once done is closed, as what follows
	end    int64
	chunks []Chunk
	last   *frame // not written yet, for the last of all is padded
	spare  chan []byte
	index  ChunkIndex // valid after patch
}

// frame is a piece on its way through compression.
type frame struct {
	piece
	size  int // of the piece
	sum   [sha256.Size]byte
	out   []byte
	ready chan struct{}
}

// maxCompressors bounds the memory of a conversion: each holds about 16 MiB.
const maxCompressors = 4

func compressors(serial bool) int {
	if serial {
		return 1
	}
	return min(runtime.GOMAXPROCS(0), maxCompressors)
}

func newFrameBlob(dst io.WriterAt, serial bool) (*frameBlob, error) {
	n := compressors(serial)
	// The frames' checksums make reading them back for ImageDigest a proof of
	// compression and decompression.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(n), zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithSingleSegment(true), zstd.WithEncoderCRC(true), zstd.WithWindowSize(imageChunk))
	if err != nil {
		return nil, err
	}
	w := &frameBlob{dst: dst, enc: enc, spare: make(chan []byte, n+1)}
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
	f := &frame{piece: pc, size: len(pc.p)}
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
		f.out = storedFrame(f.p) // its digest is known when it is patched
		return
	}
	var buf []byte
	select {
	case buf = <-w.spare:
	default:
	}
	f.out = w.enc.EncodeAll(f.p, buf[:0])
	f.sum = sha256.Sum256(f.out)
}

// write takes in the next frame and writes the one before it.
func (w *frameBlob) write(f *frame) {
	f, w.last = w.last, f
	if f == nil || w.err != nil {
		return
	}
	if _, err := w.dst.WriteAt(f.out, w.end); err != nil {
		w.err = fmt.Errorf("write image: %w", err)
		w.failed.Store(true)
	}
	w.chunks = append(w.chunks, Chunk{w.end, int64(len(f.out)), f.off, int64(f.size), f.sum})
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
	if f := w.last; f != nil && w.err == nil && f.off > 0 {
		f.out, w.err = paddedFrame(f.out, int(-(w.end+int64(len(f.out)))&3))
		f.sum = sha256.Sum256(f.out)
	}
	w.write(nil)
	return w.err
}

func (w *frameBlob) patch(head []byte) error {
	if _, err := w.dst.WriteAt(head, storedHeader); err != nil {
		return err
	}
	w.chunks[0].SHA256 = sha256.Sum256(storedFrame(head))
	last := w.chunks[len(w.chunks)-1]
	frame := encodeIndex(w.chunks, last.ImageOffset+last.ImageSize)
	if _, err := w.dst.WriteAt(frame, w.end); err != nil {
		return err
	}
	w.index = ChunkIndex{w.end, w.end + int64(len(frame)), digest.FromBytes(frame[SkippableHeader:])}
	w.end = w.index.End
	return nil
}

func (w *frameBlob) blobOffset(off int64) int64 {
	i, _ := slices.BinarySearchFunc(w.chunks, off, func(c Chunk, off int64) int { return cmp.Compare(c.ImageOffset, off) })
	return w.chunks[i].Offset
}

func (w *frameBlob) size() int64             { return w.end }
func (w *frameBlob) chunkIndex() *ChunkIndex { return &w.index }

// paddedFrame makes a frame longer, so that its length is n more modulo 4: the index
// begins at a multiple of 4 (the draft's 3.4.3). A skippable frame between them, which
// the draft allows, would count as a part of the last chunk. Instead there are empty
// stored blocks, of three bytes each, before the first block.
func paddedFrame(frame []byte, n int) ([]byte, error) {
	const emptyBlock = 3
	var h zstd.Header
	if err := h.Decode(frame); err != nil {
		return nil, fmt.Errorf("pad the last frame: %w", err)
	}
	blocks := -n & 3 // 3 is -1 modulo 4
	return slices.Insert(frame, h.HeaderSize, make([]byte, emptyBlock*blocks)...), nil
}

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
