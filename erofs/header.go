package erofs

import (
	"bytes"
	"strconv"
)

// The tar header block: POSIX.1-1988 ustar, star and GNU tar. Offsets as in
// archive/tar/format.go; what archive/tar accepts is read the way it reads it.
type header [tarBlock]byte

type tarFormat int

const (
	formatBad tarFormat = iota
	formatV7
	formatUSTAR // and PAX
	formatSTAR
	formatGNU
)

func (h *header) name() []byte     { return cString(h[:100]) }
func (h *header) linkname() []byte { return cString(h[157:257]) }
func (h *header) typeflag() byte   { return h[156] }

// format verifies the checksum and tells the variant.
func (h *header) format() tarFormat {
	want, ok := parseOctal(h[148:156])
	unsigned, signed := h.checksums()
	if !ok || want != unsigned && want != signed {
		return formatBad
	}
	switch magic := string(h[257:263]); {
	case magic == "ustar\x00" && string(h[508:512]) == "tar\x00":
		return formatSTAR
	case magic == "ustar\x00":
		return formatUSTAR
	case magic == "ustar " && string(h[263:265]) == " \x00":
		return formatGNU
	}
	return formatV7
}

// checksums sums the header with its checksum field taken as spaces, the bytes
// unsigned (POSIX) and signed (old Sun tar).
func (h *header) checksums() (unsigned, signed int64) {
	high := 0
	for _, c := range h {
		unsigned += int64(c)
		high += int(c >> 7)
	}
	for _, c := range h[148:156] {
		unsigned -= int64(c)
		high -= int(c >> 7)
	}
	unsigned += 8 * ' '
	return unsigned, unsigned - 256*int64(high)
}

// prefix is what comes before the name and a slash. It reports false for a
// number that does not parse.
func (h *header) prefix(f tarFormat) ([]byte, bool) {
	switch f {
	case formatUSTAR:
		return cString(h[345:500]), true
	case formatSTAR:
		_, ok1 := parseNumber(h[476:488]) // atime
		_, ok2 := parseNumber(h[488:500]) // ctime
		return cString(h[345:476]), ok1 && ok2
	case formatGNU:
		// Go before 1.8 wrote a ustar prefix where GNU has atime and ctime.
		_, ok1 := parseNumber(h[345:357])
		_, ok2 := parseNumber(h[357:369])
		if p := cString(h[345:500]); (!ok1 && h[345] != 0 || !ok2 && h[357] != 0) && isASCII(p) {
			return p, true
		}
	}
	return nil, true
}

// parseNumber reads octal or, with the first bit set, base-256 two's complement.
func parseNumber(b []byte) (int64, bool) {
	if b[0]&0x80 == 0 {
		return parseOctal(b)
	}
	var inv byte
	if b[0]&0x40 != 0 {
		inv = 0xff
	}
	var x uint64
	for i, c := range b {
		c ^= inv
		if i == 0 {
			c &= 0x7f
		}
		if x>>56 > 0 {
			return 0, false
		}
		x = x<<8 | uint64(c)
	}
	if x>>63 > 0 {
		return 0, false
	}
	if inv == 0xff {
		return ^int64(x), true
	}
	return int64(x), true
}

func parseOctal(b []byte) (int64, bool) {
	b = cString(bytes.Trim(b, " \x00"))
	var x uint64
	for _, c := range b {
		if c < '0' || c > '7' || x>>60 > 0 {
			return 0, false
		}
		x = x<<3 | uint64(c-'0')
	}
	return int64(x), true
}

func parseDecimal(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// cString cuts at the first NUL, if there is one.
func cString(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 || c == 0 {
			return false
		}
	}
	return true
}
