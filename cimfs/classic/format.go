package classic

import (
	"fmt"

	"github.com/Microsoft/go-winio/pkg/guid"
	"github.com/containerd/errdefs"
)

// All numbers are little endian, all structures without padding.

const magic = "cimfile0"

// versionMajor is the one that is known.
const versionMajor = 2

// commonHeader begins each file.
type commonHeader struct {
	Magic        [8]byte
	HeaderLength uint32
	Type         fileType
	_            [3]byte
	Major, Minor uint32
	_            uint64
}

type fileType uint8

const (
	typeImage fileType = iota
	typeRegion
	typeObjectID
)

// imageHeader begins NAME.cim. Behind it are ParentCount regionSets, of the CIMs that this one
// adds to.
type imageHeader struct {
	Common      commonHeader
	Regions     regionSet
	Filesystem  offset
	_           [6]byte
	ParentCount uint16
}

// regionHeader begins a region.
type regionHeader struct {
	Common commonHeader
	Index  uint16
	Type   uint8 // metadata, data in pages, data in 8 bytes: of no use to a reader
	_      [5]byte
}

// regionSet are the files region_ID_0 to region_ID_(Count-1).
type regionSet struct {
	ID    guid.GUID
	Count uint16
	_     [6]byte
}

// offset is where an object is: the number of its region in the upper 16 bits, those of the
// parents counted first, and of the byte in it in the others. 0 is no object.
type offset uint64

func (o offset) region() int { return int(o >> 48) }
func (o offset) byte() int64 { return int64(o & (1<<48 - 1)) }

func (o offset) String() string { return fmt.Sprintf("byte %#x of region %d", o.byte(), o.region()) }

type filesystem struct {
	Upcase        offset // 65536 uint16
	Tables        offset // TableCount tables
	TableCount    uint32
	RootDirectory fileID
}

// fileID counts from 1, through all tables.
type fileID uint32

const filesPerTable = 1024

// table is where up to filesPerTable files are. Files of a later writer may be longer than
// those of an earlier one.
type table struct {
	Files offset
	Count uint16
	Size  uint16 // of each
	_     uint32
}

const tableSize = 16

// file is one of a table.
type file struct {
	Flags          fileFlags
	EALength       uint16
	ReparseTag     uint32
	CreationTime   filetime
	LastWriteTime  filetime
	ChangeTime     filetime
	LastAccessTime filetime
	Default        stream // of a directory, its link table of fileIDs
	SD             offset // counted by a uint16
	EA             offset
	Reparse        offset // counted by a uint16
	Streams        offset // link table of streams
	Parent         fileID
	BaseRegion     uint16
	_              uint16
}

const (
	fileSize = 96
	// minFileSize is up to the default stream, without which a file is none.
	minFileSize = 56
)

type fileFlags uint16

const (
	flagReadOnly fileFlags = 1 << iota
	flagHidden
	flagSystem
	flagArchive
	flagSparse
)

// stream is a piece of data and how it is kept.
type stream struct {
	Data          offset
	LengthAndType uint64
}

const streamSize = 16

func (s stream) size() int64         { return int64(s.LengthAndType & (1<<48 - 1)) }
func (s stream) kind() streamKind    { return streamKind(s.LengthAndType >> 48) }
func (s stream) sparse() bool        { return s.LengthAndType&(1<<56) != 0 } // has no data, is all zeros
func (f *file) isDir() bool          { return f.Default.kind() == kindLinkTable }
func (f *file) isReparsePoint() bool { return f.Reparse != 0 }

type streamKind uint8

const (
	kindData streamKind = iota
	kindLinkTable
	kindPE
)

// peImage is what the offset of a PE image leads to: its sections are kept as they are mapped, in
// pages, and so apart. Behind it are MappingCount peMappings.
type peImage struct {
	Data         offset
	DataLength   uint64
	ImageLength  uint32
	MappingCount uint16
	Flags        uint16
}

const peImageSize = 24

// peMapping says that the bytes from FileOffset on, up to the next one's, are Delta further on
// in the data than in the file.
type peMapping struct {
	FileOffset uint32
	Delta      uint32
}

// linkTable maps names to values of one size. Behind it are Count values, Count uint32 that are
// where the names are, from the beginning of the table, and the names: uint16s in UTF-16, counted by
// one. They are sorted by what they are in upper case.
type linkTable struct {
	Length uint32
	Count  uint32
}

const linkTableSize = 8

// Windows has none longer, in uint16s.
const (
	maxName = 255
	maxPath = 32767
)

// damaged is what does not hold together.
type damaged string

func damage(format string, args ...any) error { return damaged(fmt.Sprintf(format, args...)) }

func (d damaged) Error() string        { return "damaged CIM: " + string(d) }
func (d damaged) Is(target error) bool { return target == errdefs.ErrInvalidArgument }
