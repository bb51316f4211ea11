package inflate

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
)

var (
	// ErrHeader says that a gzip header is not one, or its checksum is wrong.
	ErrHeader = errors.New("gzip: invalid header")
	// ErrChecksum says that a member's CRC-32 or size is not that of its data.
	ErrChecksum = errors.New("gzip: invalid checksum")

	errTrailing = fmt.Errorf("%w: the data has ended, and what follows is no gzip", ErrHeader)
)

// A CorruptError is the offset in the input at which it was found to be no
// DEFLATE data.
type CorruptError int64

func (e CorruptError) Error() string {
	return "gzip: corrupt input before offset " + strconv.FormatInt(int64(e), 10)
}

const (
	windowSize    = 32 << 10
	maxEmptyReads = 100

	// Both are powers of two, so that an index is put into bounds by a mask.
	inSize  = 128 << 10
	outSize = 256 << 10
	// The longest access of mem.go at the last index.
	slack = 16
)

// A Reader decompresses a gzip stream. It is for one goroutine. Its buffers are
// some 450 KB whatever the stream says.
type Reader struct {
	src    io.Reader
	srcErr error
	err    error
	step   func(*Reader) error // what comes next in the stream
	offset int64               // of in[0] in the stream

	// The next n bits of the stream are in b, the others in in[ip:end].
	b       uint64
	n       uint
	ip, end uint

	// out[start:op] is the member's history, out[rd:op] not yet handed out and
	// out[summed:op] not yet in crc and size.
	start, rd, summed, op uint

	crc, size uint32
	members   int  // that have ended
	stored    uint // bytes left in a stored block
	final     bool // this is the member's last block
	fixed     bool // lit and dist are those of a fixed block

	code code
	lens [maxLit + maxDist]uint8
	pre  [1 << preBits]uint64
	lit  [litSize]litlen
	dist [distSize]distance
	in   [inSize + slack]byte
	out  [outSize + slack]byte
}

// NewReader reads the header of the first member. Of no input at all it says
// io.EOF. It reads r in pieces of up to 128 KiB, and beyond the last member.
func NewReader(r io.Reader) (*Reader, error) {
	z := &Reader{src: r}
	if err := z.header(); err != nil {
		return nil, err
	}
	return z, nil
}

// Read implements io.Reader. Data is vouched for by its checksum only once Read
// has returned io.EOF. The last few bytes that a sender has flushed may come only
// with what it sends next.
func (z *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for z.rd == z.op {
		if z.err != nil {
			return 0, z.err
		}
		z.more()
	}
	n := copy(p, z.out[z.rd:z.op])
	z.rd += uint(n)
	return n, nil
}

// WriteTo implements io.WriterTo. It spares the copy that Read makes: w gets the
// decoder's own buffer, up to 256 KiB at a time.
func (z *Reader) WriteTo(w io.Writer) (int64, error) {
	var sum int64
	for {
		for z.rd < z.op {
			n, err := w.Write(z.out[z.rd:z.op])
			z.rd += uint(n)
			sum += int64(n)
			if err != nil {
				return sum, err
			}
		}
		if z.err == io.EOF {
			return sum, nil
		}
		if z.err != nil {
			return sum, z.err
		}
		z.more()
	}
}

// Close gives back the error that Read ended with, if any. It does not close the
// underlying reader.
func (z *Reader) Close() error {
	if z.err == io.EOF {
		return nil
	}
	return z.err
}

// more decodes until there is output to hand out or z.err is set. All earlier
// output has been handed out.
func (z *Reader) more() {
	if z.op > outLimit {
		z.slide()
	}
	for z.err == nil && !z.pause() {
		z.err = z.step(z)
	}
	z.sum()
}

// pause says whether output should be handed out now: the buffer is full, or the
// next bytes of input may be long in coming.
func (z *Reader) pause() bool {
	return z.op > outLimit || z.op > z.rd && z.end-z.ip < lowWater && z.srcErr == nil
}

// slide keeps the last windowSize bytes of the output and makes room behind them.
func (z *Reader) slide() {
	by := z.op - windowSize
	copy(z.out[:windowSize], z.out[by:z.op])
	z.start = max(z.start, by) - by
	z.op -= by
	z.rd -= by
	z.summed -= by
}

// sum adds the output since the last call to the member's checksum and size.
func (z *Reader) sum() {
	p := z.out[z.summed:z.op]
	z.crc = crc32.Update(z.crc, crc32.IEEETable, p)
	z.size += uint32(len(p))
	z.summed = z.op
}

const (
	// A round of the fast loop stores at most 12 literals and a match, in steps of
	// 16 bytes, before it looks at the room again.
	outLimit = outSize - 512

	// A round takes at most 2 refills of 7 bytes and loads 8.
	lowWater = 32

	// A length code, its extra bits, a distance code, its extra bits.
	maxSymbol = 15 + 5 + 15 + 13
)
