package erofs

import (
	"io"
	"math"
	"slices"
	"strings"
)

// Type flags of entries that become files; hard links are among them.
const (
	typeReg     = '0'
	typeRegOld  = 0
	typeLink    = '1'
	typeSymlink = '2'
	typeChar    = '3'
	typeBlock   = '4'
	typeDir     = '5'
	typeFifo    = '6'
	typeCont    = '7'
	typeSparse  = 'S'
)

// entry is one file of the tar, extended headers applied.
type entry struct {
	name, link   string
	typ          byte
	mode         uint16 // 07777
	uid, gid     uint32
	sec          int64
	nsec         uint32
	size         int64 // of the file
	stored       int64 // bytes of data in the tar; less than size if sparse
	major, minor uint32
	xattrs       []xattr
	sparse       bool
	extents      []extent // of a sparse file
}

// tarReader splits a tar into entries. What archive/tar reads it reads the same
// way, or refuses.
type tarReader struct {
	in     *input
	limits Limits
	name   string // of the current entry, for errors
	start  int64  // of the current entry's header
}

// extended is what PAX and GNU headers say about the entry after them.
type extended struct {
	pax        paxRecords
	name, link string
	any        bool
}

// next gives the next entry; its data must be consumed before the next call.
// io.EOF marks the end of the archive, behind which anything may follow.
func (t *tarReader) next() (*entry, error) {
	var ext extended
	for {
		t.name, t.start = "", t.in.pos
		b, err := t.header()
		if err == io.EOF && ext.any {
			return nil, t.bad("an extended header without an entry after it")
		}
		if err != nil {
			return nil, err
		}
		h := (*header)(b)
		switch typ := h.typeflag(); typ {
		case 'x':
			ext.any = true
			if ext.pax, err = t.extendedHeader(h); err != nil {
				return nil, err
			}
		case 'g': // says nothing about single entries that archive/tar would heed
			ext = extended{}
			if _, err = t.extendedHeader(h); err != nil {
				return nil, err
			}
		case 'L', 'K':
			ext.any = true
			s, err := t.special(h)
			if err != nil {
				return nil, err
			}
			s = string(cString([]byte(s)))
			if typ == 'L' {
				ext.name = s
			} else {
				ext.link = s
			}
		default:
			return t.entry(h, &ext)
		}
	}
}

// header gives the next header block, or io.EOF after two blocks of zeros or
// where the tar ends at a block border.
func (t *tarReader) header() (*[tarBlock]byte, error) {
	b, err := t.in.block()
	if err == io.EOF {
		return nil, err
	}
	if err != nil {
		return nil, t.readErr(err)
	}
	if b[0] != 0 || *b != ([tarBlock]byte{}) {
		return b, nil
	}
	b, err = t.in.block()
	switch {
	case err == io.EOF:
		return nil, err
	case err != nil:
		return nil, t.readErr(err)
	case *b != ([tarBlock]byte{}):
		return nil, t.bad("a single block of zeros inside the archive")
	}
	return nil, io.EOF
}

func (t *tarReader) extendedHeader(h *header) (paxRecords, error) {
	s, err := t.special(h)
	if err != nil {
		return nil, err
	}
	recs, ok := parsePAX(s)
	if !ok {
		return nil, t.bad("a PAX header is malformed")
	}
	return recs, nil
}

// special reads the data of an extended header. h is not valid afterwards.
func (t *tarReader) special(h *header) (string, error) {
	e, err := t.basics(h)
	if err != nil {
		return "", err
	}
	if e.size > t.limits.PAXBytes {
		return "", t.paxLimit()
	}
	var s strings.Builder
	err = t.in.data(e.size, func(p []byte, _ *chunk) error { s.Write(p); return nil })
	if err == nil {
		err = t.in.skip(padding(e.size))
	}
	return s.String(), t.readErr(err)
}

// padding fills n bytes of data up to whole blocks.
func padding(n int64) int64 { return -n & (tarBlock - 1) }

// basics reads the fields that every header has.
func (t *tarReader) basics(h *header) (*entry, error) {
	f := h.format()
	if f == formatBad {
		return nil, t.bad("the checksum does not match: not a tar, or damaged")
	}
	var bad bool
	num := func(from, to int) int64 {
		n, ok := parseNumber(h[from:to])
		bad = bad || !ok
		return n
	}
	mode, uid, gid := num(100, 108), num(108, 116), num(116, 124)
	e := &entry{typ: h.typeflag(), mode: uint16(mode & 0o7777), size: num(124, 136), sec: num(136, 148)}
	prefix, ok := h.prefix(f)
	name := h.name()
	if len(prefix) > 0 {
		e.name = string(prefix) + "/" + string(name)
	} else {
		e.name = string(name)
	}
	e.link = string(h.linkname())
	t.name = e.name
	var major, minor int64
	if f != formatV7 {
		major, minor = num(329, 337), num(337, 345)
	}
	if bad || !ok {
		return nil, t.bad("a number in the header does not parse")
	}
	if e.size < 0 {
		return nil, t.bad("negative size")
	}
	e.major, e.minor = clampID(major), clampID(minor)
	e.uid, e.gid = clampID(uid), clampID(gid)
	return e, nil
}

// noID stands for an owner or device number that does not fit; Linux uses the
// same value for "no user".
const noID = math.MaxUint32

func clampID(n int64) uint32 {
	if n < 0 || n > noID {
		return noID
	}
	return uint32(n)
}

func (t *tarReader) entry(h *header, ext *extended) (*entry, error) {
	e, err := t.basics(h)
	if err != nil {
		return nil, err
	}
	if err := t.applyPAX(e, ext.pax); err != nil {
		return nil, err
	}
	if ext.name != "" {
		e.name = ext.name
	}
	if ext.link != "" {
		e.link = ext.link
	}
	t.name = e.name
	if e.typ == typeRegOld {
		e.typ = typeReg
		if strings.HasSuffix(e.name, "/") {
			e.typ = typeDir
		}
	}
	if err := t.applySparse(e, h, ext.pax); err != nil {
		return nil, err
	}
	return e, t.check(e)
}

func (t *tarReader) applyPAX(e *entry, pax paxRecords) error {
	for k, v := range pax {
		if name, ok := strings.CutPrefix(k, paxXattr); ok {
			e.xattrs = append(e.xattrs, xattr{name: name, value: v})
			continue
		}
		if v == "" {
			continue
		}
		if !e.set(k, v) {
			return t.bad("the PAX record " + k + " does not parse")
		}
	}
	return nil
}

// set applies one PAX record; it reports false for one that does not parse.
func (e *entry) set(k, v string) (ok bool) {
	var n int64
	switch k {
	case "path":
		e.name = v
	case "linkpath":
		e.link = strings.Clone(v) // which is kept, and the header is not
	case "size":
		e.size, ok = parseDecimal(v)
		return ok && e.size >= 0
	case "uid":
		n, ok = parseDecimal(v)
		e.uid = clampID(n)
		return ok
	case "gid":
		n, ok = parseDecimal(v)
		e.gid = clampID(n)
		return ok
	case "mtime":
		var nsec int32
		e.sec, nsec, ok = parsePAXTime(v)
		e.nsec = uint32(nsec)
		return ok
	case "atime", "ctime":
		_, _, ok = parsePAXTime(v)
		return ok
	}
	return true
}

// applySparse finds out how much data follows and, for a sparse file, where it
// belongs.
func (t *tarReader) applySparse(e *entry, h *header, pax paxRecords) (err error) {
	e.stored = e.size
	if !e.hasData() {
		e.stored = 0
	}
	version := pax.sparseVersion()
	switch {
	case e.typ == typeSparse:
		e.extents, e.size, err = t.oldGNUSparse(h)
		e.typ = typeReg
	case version < 0:
		return nil
	default:
		err = t.paxSparse(e, pax, version)
	}
	if err != nil {
		return err
	}
	if !e.hasData() || !validExtents(e.extents, e.size) || sumExtents(e.extents) != e.stored {
		return t.bad("the sparse map does not fit the file")
	}
	e.extents = slices.DeleteFunc(e.extents, func(x extent) bool { return x.size == 0 })
	e.sparse = true
	return nil
}

func (t *tarReader) paxSparse(e *entry, pax paxRecords, version int) (err error) {
	if name := pax[paxSparseName]; name != "" {
		e.name, t.name = name, name
	}
	size := pax[paxSparseSize]
	if size == "" {
		size = pax[paxSparseRealSize]
	}
	ok := true
	if size != "" {
		if e.size, ok = parseDecimal(size); !ok {
			return t.bad("the sparse file's size does not parse")
		}
	}
	if version == 1 {
		e.extents, e.stored, err = t.sparseMap10(e.stored)
		return err
	}
	if e.extents, ok = pax.sparseMap01(); !ok {
		return t.bad("the sparse map is malformed")
	}
	return nil
}

// hasData reports whether data may follow the header; the size field of the
// other types means nothing.
func (e *entry) hasData() bool { return e.typ < typeLink || e.typ > typeFifo }

// check refuses what has no place in an image, whatever its name.
func (t *tarReader) check(e *entry) error {
	switch {
	case e.uid == noID || e.gid == noID:
		return t.bad("owner or group outside 0 to 4294967294")
	case strings.IndexByte(e.name, 0) >= 0 || strings.IndexByte(e.link, 0) >= 0:
		return t.bad("NUL in a name")
	case e.size > t.limits.FileBytes && e.typ != typeDir && e.hasData():
		return &LimitError{Limit: "bytes in a file (" + e.name + ")", Max: t.limits.FileBytes, Flag: "--max-file-bytes"}
	}
	switch e.typ {
	case typeReg, typeLink, typeSymlink, typeChar, typeBlock, typeDir, typeFifo:
		return nil
	case typeCont:
		e.typ = typeReg
		return nil
	}
	return t.bad("entries of type " + string(quoteByte(e.typ)) + " are not files; make the layer with ustar, PAX or GNU tar entries only")
}

func quoteByte(b byte) []byte {
	if b < ' ' || b > '~' {
		const hex = "0123456789abcdef"
		return []byte{'0', 'x', hex[b>>4], hex[b&15]}
	}
	return []byte{'\'', b, '\''}
}

func (t *tarReader) bad(reason string) error {
	return &EntryError{Name: t.name, Offset: t.start, Reason: reason}
}

func (t *tarReader) paxLimit() error {
	return &LimitError{Limit: "bytes in an extended header", Max: t.limits.PAXBytes, Flag: "--max-pax-bytes"}
}

// readErr explains where the tar ends too early.
func (t *tarReader) readErr(err error) error {
	if err == errTruncated || err == io.EOF { // wrapped, it is an error of src or dst
		return &EntryError{Name: t.name, Offset: t.start, Err: io.ErrUnexpectedEOF,
			Reason: "the tar ends inside this entry: it is truncated"}
	}
	return err
}
