// Package classictest writes classic CIMs for tests: by the same source as package classic reads
// them, so that a mistake about the format may be in both. Whether Windows takes them nobody
// knows.
package classictest

import (
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing/fstest"
	"unicode"
	"unicode/utf16"
)

// Image is a CIM to be written. It is written as it is said to be, sound or not.
type Image struct {
	Root           *File
	Major          uint32 // of the version; 2
	Fork           bool   // with all content in regions of a parent
	FileSize       int    // of a file in its table; 96
	CountedStreams bool   // has tables of streams behind another length, where Microsoft's reader looks
}

// File is a file or, with Files, a directory. One that is in two directories has two names.
type File struct {
	Files      map[string]*File
	Content    []byte
	Sparse     int64     // a length of zeros, without content
	PE         []Mapping // how content is kept if it is a PE image
	Streams    map[string][]byte
	Flags      uint16
	Times      [4]uint64 // creation, last write, change, last access
	SD, EA     []byte
	ReparseTag uint32
	Reparse    []byte
	PatchFile  func(file []byte)  // changes what is written of it
	PatchLinks func(table []byte) // changes its link table, or that of its streams
}

// Mapping has the content from Offset on be Delta further on.
type Mapping struct{ Offset, Delta uint32 }

// Dir makes a directory.
func Dir(files map[string]*File) *File {
	if files == nil {
		files = map[string]*File{}
	}
	return &File{Files: files}
}

// Text makes a file.
func Text(content string) *File { return &File{Content: []byte(content)} }

// Name is that of the file of each image.
const Name = "layer.cim"

// Write writes an image into dir, and gives the path of its .cim.
func (im Image) Write(dir string) (string, error) {
	for name, f := range im.FS() {
		if err := os.WriteFile(filepath.Join(dir, name), f.Data, 0o644); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, Name), nil
}

// Names of the regions of each image, and of its parent if it is a fork.
const (
	Metadata  = "region_" + own + "_0"
	own       = "00112233-4455-6677-8899-aabbccddeeff"
	parent    = "ffeeddcc-bbaa-9988-7766-554433221100"
	data      = 1
	smallData = 2
)

var le = binary.LittleEndian

// FS gives an image's files.
func (im Image) FS() fstest.MapFS {
	w := &writer{Image: im, ids: map[*File]uint32{}}
	if w.Major == 0 {
		w.Major = 2
	}
	if w.FileSize == 0 {
		w.FileSize = 96
	}
	for i := range w.regions {
		w.regions[i] = w.header(1, 40)
		le.PutUint16(w.regions[i][32:], uint16(i))
		w.regions[i][34] = byte(i)
	}
	return w.files(w.filesystem())
}

type writer struct {
	Image
	regions [3][]byte // metadata, data, small data
	ids     map[*File]uint32
	order   []*File
}

// header begins a file of size bytes or more.
func (w *writer) header(kind byte, size int) []byte {
	b := make([]byte, size)
	copy(b, "cimfile0")
	le.PutUint32(b[8:], uint32(size))
	b[12] = kind
	le.PutUint32(b[16:], w.Major)
	return b
}

func (w *writer) files(filesystem uint64) fstest.MapFS {
	h := w.header(0, 72)
	le.PutUint64(h[56:], filesystem)
	fsys := fstest.MapFS{}
	set := func(b []byte, id string, regions ...int) {
		copy(b, guid(id))
		le.PutUint16(b[16:], uint16(len(regions)))
		for i, r := range regions {
			fsys[fmt.Sprintf("region_%s_%d", id, i)] = &fstest.MapFile{Data: w.regions[r]}
		}
	}
	if w.Fork {
		le.PutUint16(h[70:], 1)
		h = append(h, make([]byte, 24)...)
		set(h[72:], parent, data, smallData)
		set(h[32:], own, 0)
	} else {
		set(h[32:], own, 0, data, smallData)
	}
	fsys[Name] = &fstest.MapFile{Data: h}
	return fsys
}

// guid is one as it lies on the disk.
func guid(s string) []byte {
	var b [16]byte
	var d1, d2, d3, d4, d5 uint64
	fmt.Sscanf(s, "%x-%x-%x-%x-%x", &d1, &d2, &d3, &d4, &d5)
	le.PutUint32(b[:], uint32(d1))
	le.PutUint16(b[4:], uint16(d2))
	le.PutUint16(b[6:], uint16(d3))
	binary.BigEndian.PutUint64(b[8:], d4<<48|d5)
	return b[:]
}

// put adds an object to a region and gives its offset.
func (w *writer) put(region int, b []byte, align int) uint64 {
	for len(w.regions[region])%align != 0 {
		w.regions[region] = append(w.regions[region], 0)
	}
	at := len(w.regions[region])
	w.regions[region] = append(w.regions[region], b...)
	if w.Fork {
		region = (region + 2) % 3 // the parent's two come first
	}
	return uint64(region)<<48 | uint64(at)
}

func (w *writer) meta(b []byte) uint64 { return w.put(0, b, 8) }

// content adds content where its size wants it.
func (w *writer) content(b []byte) uint64 {
	if len(b) == 0 {
		return 0
	}
	if len(b) < 4096 {
		return w.put(smallData, b, 8)
	}
	return w.put(data, b, 4096)
}

func (w *writer) counted(b []byte) uint64 {
	if b == nil {
		return 0
	}
	return w.meta(append(le.AppendUint16(nil, uint16(len(b))), b...))
}

// filesystem adds all of it.
func (w *writer) filesystem() uint64 {
	w.number(w.Root)
	b := le.AppendUint64(nil, w.meta(upcase()))
	var files []byte
	for _, f := range w.order {
		files = append(files, w.file(f)...)
	}
	var tables []byte
	for all := range slices.Chunk(files, 1024*w.FileSize) {
		tables = le.AppendUint64(tables, w.meta(all))
		tables = le.AppendUint16(tables, uint16(len(all)/w.FileSize))
		tables = le.AppendUint16(tables, uint16(w.FileSize))
		tables = le.AppendUint32(tables, 0)
	}
	b = le.AppendUint64(b, w.meta(tables))
	b = le.AppendUint32(b, uint32(len(tables)/16))
	return w.meta(le.AppendUint32(b, w.ids[w.Root]))
}

// number gives f and what is in it IDs, each but once.
func (w *writer) number(f *File) {
	if w.ids[f] != 0 {
		return
	}
	w.order = append(w.order, f)
	w.ids[f] = uint32(len(w.order))
	for _, name := range slices.Sorted(maps.Keys(f.Files)) {
		w.number(f.Files[name])
	}
}

// file is f in its table.
func (w *writer) file(f *File) []byte {
	b := le.AppendUint16(nil, f.Flags)
	b = le.AppendUint16(b, uint16(len(f.EA)))
	b = le.AppendUint32(b, f.ReparseTag)
	for _, t := range f.Times {
		b = le.AppendUint64(b, t)
	}
	b = append(b, w.stream(f)...)
	b = le.AppendUint64(b, w.counted(f.SD))
	var ea uint64
	if f.EA != nil {
		ea = w.meta(f.EA)
	}
	b = le.AppendUint64(b, ea)
	b = le.AppendUint64(b, w.counted(f.Reparse))
	b = le.AppendUint64(b, w.streams(f))
	b = append(b, make([]byte, 8)...)
	if f.PatchFile != nil {
		f.PatchFile(b)
	}
	return append(b, make([]byte, max(0, w.FileSize-len(b)))...)[:w.FileSize]
}

// stream is the default stream of f.
func (w *writer) stream(f *File) []byte {
	var at, length, kind uint64
	switch {
	case f.Files != nil:
		values := map[string][]byte{}
		for name, child := range f.Files {
			values[name] = le.AppendUint32(nil, w.ids[child])
		}
		if len(values) > 0 {
			table := linkTable(values, 4)
			if f.PatchLinks != nil {
				f.PatchLinks(table)
			}
			at, length = w.meta(table), uint64(len(table))
		}
		kind = 1
	case f.Sparse > 0:
		length, kind = uint64(f.Sparse), 1<<8
	case f.PE != nil:
		at, length, kind = w.image(f), uint64(len(f.Content)), 2
	default:
		at, length = w.content(f.Content), uint64(len(f.Content))
	}
	return le.AppendUint64(le.AppendUint64(nil, at), kind<<48|length)
}

// image adds f's content as that of a PE image.
func (w *writer) image(f *File) uint64 {
	var spread []byte
	mappings := append([]Mapping{{}}, f.PE...)
	for i, m := range mappings {
		end := uint32(len(f.Content))
		if i+1 < len(mappings) {
			end = mappings[i+1].Offset
		}
		spread = append(spread, make([]byte, max(0, int(m.Offset+m.Delta)-len(spread)))...)
		spread = append(spread, f.Content[min(m.Offset, end):end]...)
	}
	b := le.AppendUint64(nil, w.content(spread))
	b = le.AppendUint64(b, uint64(len(spread)))
	b = le.AppendUint32(b, uint32(len(spread)))
	b = le.AppendUint16(b, uint16(len(f.PE)))
	b = le.AppendUint16(b, 0)
	for _, m := range f.PE {
		b = le.AppendUint32(le.AppendUint32(b, m.Offset), m.Delta)
	}
	return w.meta(b)
}

// streams adds the table of f's alternate streams.
func (w *writer) streams(f *File) uint64 {
	if f.Streams == nil {
		return 0
	}
	values := map[string][]byte{}
	for name, b := range f.Streams {
		values[name] = le.AppendUint64(le.AppendUint64(nil, w.content(b)), uint64(len(b)))
	}
	table := linkTable(values, 16)
	if f.PatchLinks != nil {
		f.PatchLinks(table)
	}
	if w.CountedStreams {
		table = append(le.AppendUint32(nil, uint32(len(table))), table...)
	}
	return w.meta(table)
}

// linkTable maps names to values of size bytes.
func linkTable(values map[string][]byte, size int) []byte {
	names := slices.SortedFunc(maps.Keys(values), func(a, b string) int { return slices.Compare(fold(a), fold(b)) })
	head := 8 + len(names)*(size+4)
	b := le.AppendUint32(le.AppendUint32(nil, 0), uint32(len(names)))
	var offsets, text []byte
	for _, name := range names {
		b = append(b, values[name]...)
		offsets = le.AppendUint32(offsets, uint32(head+len(text)))
		wide := utf16.Encode([]rune(name))
		text = le.AppendUint16(text, uint16(len(wide)))
		for _, u := range wide {
			text = le.AppendUint16(text, u)
		}
	}
	b = append(append(b, offsets...), text...)
	le.PutUint32(b, uint32(len(b)))
	return b
}

func fold(name string) []rune {
	r := []rune(name)
	for i := range r {
		if r[i] < 1<<16 {
			r[i] = rune(upper(uint16(r[i])))
		}
	}
	return r
}

// upcase is the upcase table.
var upcase = sync.OnceValue(func() (b []byte) {
	for i := range 1 << 16 {
		b = le.AppendUint16(b, upper(uint16(i)))
	}
	return b
})

// upper is one character of it. Windows has a table of its own.
func upper(u uint16) uint16 {
	if r := unicode.ToUpper(rune(u)); r < 1<<16 {
		return uint16(r)
	}
	return u
}
