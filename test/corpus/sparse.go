package corpus

import (
	"archive/tar"
	"fmt"
	"strconv"
	"strings"
)

// extent is where a sparse file has data: everything else reads as zeros.
type extent struct {
	offset int64
	data   string
}

// sparseFile has holes at its start, between, and at its end, and data that
// neither begins nor ends with a block.
var sparseFile = []extent{
	{4096, strings.Repeat("first\n", 100)},
	{70_000, strings.Repeat("second\n", 2000)},
	{1 << 20, "last"},
}

const sparseSize = 1<<20 + 300_000

// sparse writes one file in each of the four formats, and the borders: all hole,
// no hole, and more extents than one GNU header holds.
func (o *oddWriter) sparse() {
	o.dir("sparse", 0o755)
	o.pax00("sparse/pax-0.0", sparseSize, sparseFile)
	o.pax01("sparse/pax-0.1", sparseSize, sparseFile)
	o.pax10("sparse/pax-1.0", sparseSize, sparseFile)
	o.gnu("sparse/gnu", sparseSize, sparseFile)
	o.pax10("sparse/all-hole", 1<<20, nil)
	o.gnu("sparse/gnu-all-hole", 1<<20, nil)
	o.pax10("sparse/no-hole", 5, []extent{{0, "whole"}})
	var many []extent
	for i := range 60 {
		many = append(many, extent{int64(i) * 8192, fmt.Sprintf("extent %d", i)})
	}
	o.pax10("sparse/many", 60*8192, many)
	o.gnu("sparse/gnu-many", 60*8192, many)
}

func stored(extents []extent) string {
	var b strings.Builder
	for _, e := range extents {
		b.WriteString(e.data)
	}
	return b.String()
}

// pax00 repeats GNU.sparse.offset and numbytes, which a map of records cannot, so
// the extended header is written by hand.
func (o *oddWriter) pax00(name string, size int64, extents []extent) {
	var b strings.Builder
	record(&b, "GNU.sparse.size", fmt.Sprint(size))
	record(&b, "GNU.sparse.numblocks", fmt.Sprint(len(extents)))
	for _, e := range extents {
		record(&b, "GNU.sparse.offset", fmt.Sprint(e.offset))
		record(&b, "GNU.sparse.numbytes", fmt.Sprint(len(e.data)))
	}
	o.paxRaw(name, b.String(), stored(extents))
}

func (o *oddWriter) pax01(name string, size int64, extents []extent) {
	var numbers []string
	for _, e := range extents {
		numbers = append(numbers, fmt.Sprint(e.offset), fmt.Sprint(len(e.data)))
	}
	var b strings.Builder
	record(&b, "GNU.sparse.size", fmt.Sprint(size))
	record(&b, "GNU.sparse.numblocks", fmt.Sprint(len(extents)))
	record(&b, "GNU.sparse.map", strings.Join(numbers, ","))
	record(&b, "GNU.sparse.name", name)
	o.paxRaw("GNUSparseFile.0/"+name, b.String(), stored(extents))
}

// pax10 has the map in front of the data, padded to a block.
func (o *oddWriter) pax10(name string, size int64, extents []extent) {
	var b strings.Builder
	record(&b, "GNU.sparse.major", "1")
	record(&b, "GNU.sparse.minor", "0")
	record(&b, "GNU.sparse.name", name)
	record(&b, "GNU.sparse.realsize", fmt.Sprint(size))
	m := fmt.Sprintf("%d\n", len(extents))
	for _, e := range extents {
		m += fmt.Sprintf("%d\n%d\n", e.offset, len(e.data))
	}
	o.paxRaw("GNUSparseFile.0/"+name, b.String(), pad(m)+stored(extents))
}

// gnu is the old format: type 'S', four extents in the header and 21 in each
// block that follows.
func (o *oddWriter) gnu(name string, size int64, extents []extent) {
	data := stored(extents)
	h := header(name, 'S', int64(len(data)), gnuMagic)
	rest := sparseMap(h[386:482], extents)
	if len(rest) > 0 {
		h[482] = 1
	}
	copy(h[483:495], octal(size, 12))
	checksum(h)
	out := string(h)
	for len(rest) > 0 {
		block := make([]byte, 512)
		if rest = sparseMap(block[:504], rest); len(rest) > 0 {
			block[504] = 1
		}
		out += string(block)
	}
	o.raw([]byte(out + pad(data)))
}

// sparseMap fills extents into space, 24 bytes each, and returns those left.
func sparseMap(space []byte, extents []extent) []extent {
	for len(space) >= 24 && len(extents) > 0 {
		copy(space, octal(extents[0].offset, 12))
		copy(space[12:], octal(int64(len(extents[0].data)), 12))
		space, extents = space[24:], extents[1:]
	}
	return extents
}

func (o *oddWriter) paxRaw(name, records, data string) {
	x := header("PaxHeaders.0/"+name, tar.TypeXHeader, int64(len(records)), ustarMagic)
	checksum(x)
	h := header(name, tar.TypeReg, int64(len(data)), ustarMagic)
	checksum(h)
	o.raw([]byte(string(x) + pad(records) + string(h) + pad(data)))
}

const (
	ustarMagic = "ustar\x0000"
	gnuMagic   = "ustar  \x00"
)

// header is a block without its checksum.
func header(name string, typeflag byte, size int64, magic string) []byte {
	h := make([]byte, 512)
	copy(h, name)
	copy(h[100:], octal(0o644, 8))
	copy(h[108:], octal(0, 8))
	copy(h[116:], octal(0, 8))
	copy(h[124:], octal(size, 12))
	copy(h[136:], octal(oddTime.Unix(), 12))
	h[156] = typeflag
	copy(h[257:], magic)
	return h
}

func checksum(h []byte) {
	copy(h[148:], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
}

func octal(v int64, width int) string { return fmt.Sprintf("%0*o\x00", width-1, v) }

func pad(s string) string { return s + strings.Repeat("\x00", (512-len(s)%512)%512) }

// record appends a PAX record, which begins with its own length.
func record(b *strings.Builder, key, value string) {
	body := " " + key + "=" + value + "\n"
	n := len(body) + 1
	for len(strconv.Itoa(n))+len(body) != n {
		n = len(strconv.Itoa(n)) + len(body)
	}
	b.WriteString(strconv.Itoa(n) + body)
}
