package erofs

import (
	"fmt"
	"hash"
	"io"
	"sync/atomic"
)

// rawBlob writes the image as it is.
type rawBlob struct {
	dst    io.WriterAt
	queue  chan piece // nil in serial mode
	done   chan struct{}
	failed atomic.Bool
	err    error // valid once done is closed
	end    int64
	sums   *blobSums // computed on the way; nil: not wanted, or not possible
}

// blobSums are the digests of an image that is written in order, head and all.
type blobSums struct{ blob, meta hash.Hash }

func (s *blobSums) add(pc piece) {
	s.blob.Write(pc.p)
	if pc.meta {
		s.meta.Write(pc.p)
	}
}

func newRawBlob(dst io.WriterAt, serial bool, sums *blobSums) *rawBlob {
	w := &rawBlob{dst: dst, sums: sums}
	if serial {
		return w
	}
	w.queue, w.done = make(chan piece, inChunks), make(chan struct{})
	go func() {
		defer close(w.done)
		for pc := range w.queue {
			w.write(pc)
		}
	}()
	return w
}

func (w *rawBlob) takesAny() bool { return true }

func (w *rawBlob) put(pc piece) error {
	w.end = pc.off + int64(len(pc.p))
	if w.queue == nil {
		w.write(pc)
		return w.err
	}
	w.queue <- pc
	if w.failed.Load() {
		return errStopped
	}
	return nil
}

// errStopped ends the parser after the writer failed; finish tells why.
var errStopped = fmt.Errorf("stopped by a failed write")

func (w *rawBlob) write(pc piece) {
	defer pc.c.release()
	if w.err != nil {
		return
	}
	if _, err := w.dst.WriteAt(pc.p, pc.off); err != nil {
		w.err = fmt.Errorf("write image: %w", err)
		w.failed.Store(true)
	}
	if w.sums != nil {
		w.sums.add(pc)
	}
}

func (w *rawBlob) finish() error {
	if w.queue != nil {
		close(w.queue)
		<-w.done
	}
	return w.err
}

func (w *rawBlob) patch(head []byte) error {
	_, err := w.dst.WriteAt(head, 0)
	return err
}

func (w *rawBlob) blobOffset(off int64) int64 { return off }
func (w *rawBlob) size() int64                { return w.end }
func (w *rawBlob) chunkIndex() *ChunkIndex    { return nil }
