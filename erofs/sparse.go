package erofs

import (
	"bytes"
	"strings"
)

// extent is a piece of a sparse file that holds data; what lies between the
// extents reads as zeros.
type extent struct{ off, size int64 }

func (e extent) end() int64 { return e.off + e.size }

// validExtents reports whether the extents are in order, apart and inside a
// file of size bytes. archive/tar and BSD tar make the same checks.
func validExtents(ext []extent, size int64) bool {
	if size < 0 {
		return false
	}
	var end int64
	for _, e := range ext {
		if e.off < end || e.size < 0 || e.off > size || e.size > size-e.off {
			return false
		}
		end = e.end()
	}
	return true
}

func sumExtents(ext []extent) (n int64) {
	for _, e := range ext {
		n += e.size
	}
	return n
}

// sparseRegion is the part of an old GNU header, or a whole extension block,
// that holds pairs of offset and length and says whether another block follows.
func sparseRegion(ext []extent, b []byte) (_ []extent, more, ok bool) {
	const pair = 24
	n := len(b) / pair
	for i := range n {
		p := b[i*pair:]
		if p[0] == 0 {
			break
		}
		off, ok1 := parseNumber(p[:12])
		size, ok2 := parseNumber(p[12:pair])
		if !ok1 || !ok2 {
			return nil, false, false
		}
		ext = append(ext, extent{off, size})
	}
	return ext, b[n*pair] > 0, true
}

// The sparse regions of a GNU header and of its extension blocks: four pairs,
// twenty-one pairs, and the flag behind them.
const (
	sparseHead    = 386
	sparseHeadEnd = 386 + 4*24 + 1
	sparseExtEnd  = 21*24 + 1
	realSizeAt    = 483
)

// oldGNUSparse reads the map of a type 'S' entry: GNU tar before 1.14.
func (t *tarReader) oldGNUSparse(h *header) ([]extent, int64, error) {
	if h.format() != formatGNU {
		return nil, 0, t.bad("a sparse file in a header that is not GNU tar's")
	}
	size, ok := parseNumber(h[realSizeAt : realSizeAt+12])
	ext, more, ok2 := sparseRegion(nil, h[sparseHead:sparseHeadEnd])
	if !ok || !ok2 {
		return nil, 0, t.bad("the sparse map is malformed")
	}
	for read := int64(tarBlock); more; read += tarBlock {
		if read > t.limits.PAXBytes {
			return nil, 0, t.paxLimit()
		}
		b, err := t.in.block()
		if err != nil {
			return nil, 0, t.readErr(err)
		}
		if ext, more, ok = sparseRegion(ext, b[:sparseExtEnd]); !ok {
			return nil, 0, t.bad("the sparse map is malformed")
		}
	}
	return ext, size, nil
}

// sparseVersion tells GNU tar's PAX sparse formats apart: 0 (0.0 and 0.1), 1
// (1.0), or -1 for a file that is not sparse.
func (r paxRecords) sparseVersion() int {
	switch major, minor := r[paxSparseMajor], r[paxSparseMinor]; {
	case major == "0" && (minor == "0" || minor == "1"):
		return 0
	case major == "1" && minor == "0":
		return 1
	case major != "" || minor != "":
		return -1
	case r[paxSparseMap] != "":
		return 0
	}
	return -1
}

// sparseMap01 reads the map of GNU tar's formats 0.0 and 0.1.
func (r paxRecords) sparseMap01() ([]extent, bool) {
	n, ok := parseDecimal(r[paxSparseBlocks])
	if !ok || n < 0 {
		return nil, false
	}
	var fields []string
	if m := r[paxSparseMap]; m != "" {
		fields = strings.Split(m, ",")
	}
	if int64(len(fields)) != 2*n || n > int64(len(fields)) {
		return nil, false
	}
	ext := make([]extent, 0, n)
	for i := 0; i < len(fields); i += 2 {
		off, ok1 := parseDecimal(fields[i])
		size, ok2 := parseDecimal(fields[i+1])
		if !ok1 || !ok2 {
			return nil, false
		}
		ext = append(ext, extent{off, size})
	}
	return ext, true
}

// sparseMap10 reads the map of GNU tar's format 1.0, which stands before the
// data in decimal lines, padded to a block. left is what remains of the entry's
// data; it gives what remains after the map.
func (t *tarReader) sparseMap10(left int64) ([]extent, int64, error) {
	lines := &lineReader{t: t, left: left}
	n, err := lines.number()
	if err != nil {
		return nil, 0, err
	}
	var ext []extent
	for ; n > 0; n-- {
		off, err := lines.number()
		if err != nil {
			return nil, 0, err
		}
		size, err := lines.number()
		if err != nil {
			return nil, 0, err
		}
		ext = append(ext, extent{off, size})
	}
	return ext, lines.left, nil
}

// lineReader reads decimal lines out of an entry's data, block by block and no
// further than the last line asked for.
type lineReader struct {
	t    *tarReader
	left int64 // data of the entry not yet read
	read int64
	buf  []byte
}

func (l *lineReader) number() (int64, error) {
	for {
		line, rest, found := bytes.Cut(l.buf, []byte{'\n'})
		if found {
			l.buf = rest
			n, ok := parseDecimal(string(line))
			if !ok || n < 0 {
				return 0, l.t.bad("the sparse map is malformed")
			}
			return n, nil
		}
		if err := l.more(); err != nil {
			return 0, err
		}
	}
}

func (l *lineReader) more() error {
	if l.left < tarBlock {
		return l.t.bad("the sparse map is malformed")
	}
	if l.read += tarBlock; l.read > l.t.limits.PAXBytes {
		return l.t.paxLimit()
	}
	b, err := l.t.in.block()
	if err != nil {
		return l.t.readErr(err)
	}
	l.buf = append(l.buf, b[:]...)
	l.left -= tarBlock
	return nil
}
