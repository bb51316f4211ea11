package erofs

// blockLog is the size of an image's blocks, as log2 of bytes.
type blockLog uint8

const (
	blocks4K  blockLog = 12
	blocks512 blockLog = 9 // those of a tar

	// headSize is what comes before everything else in an image: one block of 4 KiB, or
	// eight of 512 bytes, with the superblock in it.
	headSize = 4096
)

func (b blockLog) size() int64 { return 1 << b }

// up is n bytes filled up to whole blocks.
func (b blockLog) up(n int64) int64 { return align(n, b.size()) }

const (
	// outChunk is how much is written at once.
	outChunk = 1 << 20
	// directWrite is the run of file data from which on it is written out of the
	// input's chunk instead of being copied into an output chunk first.
	directWrite = 64 << 10
)

// piece is a stretch of the image that is ready, in memory that c holds.
type piece struct {
	off int64 // in the image
	p   []byte
	c   *chunk // released when the piece is written
	// meta says that it belongs to the head or to the metadata.
	meta bool
}

// blobWriter brings an image, cut into pieces, into the blob.
type blobWriter interface {
	// put takes over pc and its chunk. Pieces come in order, without gaps.
	put(pc piece) error
	// takesAny reports whether pieces of any size will do, so that they need not
	// be gathered.
	takesAny() bool
	// finish waits until everything is written. It must be called.
	finish() error
	// patch puts the image's head in the place kept for it, after finish. What depends on
	// it follows.
	patch(head []byte) error
	// blobOffset is where the piece that began at off in the image lies in the
	// blob, after finish.
	blobOffset(off int64) int64
	size() int64
	chunkIndex() *ChunkIndex // nil: none
}

// output is the image as it grows: it gathers small writes into chunks.
type output struct {
	blob  blobWriter
	pool  *chunkPool
	bits  blockLog
	max   int64
	limit error // what passing max gives
	cur   *chunk
	n     int   // bytes in cur
	pos   int64 // in the image
	meta  bool  // of what is written now: see piece
	alone bool  // the file in cur shares no chunk with the next
}

var errImageTooLarge = &LimitError{Limit: "blocks in an image", Max: 1 << 32}

// block is the number of the next block; the image stands at a block border.
func (o *output) block() uint32 { return uint32(o.pos >> o.bits) }

func (o *output) room(n int64) error {
	switch {
	case n > o.max-o.pos:
		return o.limit
	case o.pos+n > o.bits.size()<<32-o.bits.size():
		return errImageTooLarge
	}
	return nil
}

// write appends p, which lies in c; the caller may use p no longer than c.
func (o *output) write(p []byte, c *chunk) error {
	if err := o.room(int64(len(p))); err != nil {
		return err
	}
	if len(p) < directWrite || !o.blob.takesAny() {
		return o.copyIn(p)
	}
	if err := o.flush(); err != nil {
		return err
	}
	c.retain()
	off := o.pos
	o.pos += int64(len(p))
	return o.blob.put(piece{off, p, c, o.meta})
}

// Write appends p.
func (o *output) Write(p []byte) (int, error) {
	err := o.room(int64(len(p)))
	if err == nil {
		err = o.copyIn(p)
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (o *output) copyIn(p []byte) error {
	for len(p) > 0 {
		k := copy(o.space(), p)
		p = p[k:]
		if err := o.advance(k); err != nil {
			return err
		}
	}
	return nil
}

// space is where the next bytes go.
func (o *output) space() []byte {
	if o.cur == nil {
		o.cur, o.n = o.pool.take(), 0
	}
	return o.cur.buf[o.n:]
}

func (o *output) advance(k int) error {
	o.n += k
	o.pos += int64(k)
	if o.n < len(o.cur.buf) {
		return nil
	}
	return o.flush()
}

func (o *output) zeros(n int64) error {
	if err := o.room(n); err != nil {
		return err
	}
	for n > 0 {
		p := o.space()
		p = p[:min(n, int64(len(p)))]
		clear(p)
		n -= int64(len(p))
		if err := o.advance(len(p)); err != nil {
			return err
		}
	}
	return nil
}

// begin says that a file's contents follow, of size bytes. Where pieces become chunks
// it ends the one before, if the file is to begin a chunk.
func (o *output) begin(name string, size int64) error {
	if o.blob.takesAny() || size == 0 {
		return nil
	}
	alone := o.alone || size >= aloneFrom
	o.alone = size >= aloneFrom
	if alone || size > int64(imageChunk-o.n) || o.n >= sharedChunk && beginsChunk(name) {
		return o.flush()
	}
	return nil
}

// pad fills the block.
func (o *output) pad() error { return o.zeros(o.bits.up(o.pos) - o.pos) }

// flush ends the current chunk.
func (o *output) flush() error {
	if o.cur == nil || o.n == 0 {
		return nil
	}
	c := o.cur
	o.cur = nil
	return o.blob.put(piece{o.pos - int64(o.n), c.buf[:o.n], c, o.meta})
}

// finish flushes and waits, also after an error.
func (o *output) finish(err error) error {
	if err == nil {
		err = o.flush()
	}
	if o.cur != nil {
		o.cur.release()
		o.cur = nil
	}
	if ferr := o.blob.finish(); ferr != nil {
		return ferr // the cause of what put returned
	}
	return err
}
