package classic

import (
	"fmt"
	"io/fs"
	"time"
)

// Metadata is what a CIM has of a file besides its content.
type Metadata struct {
	FileID             uint32 // hard links share it
	Attributes         uint32 // FILE_ATTRIBUTE_*
	CreationTime       time.Time
	LastWriteTime      time.Time
	ChangeTime         time.Time
	LastAccessTime     time.Time
	SecurityDescriptor []byte // self-relative
	ExtendedAttributes []byte // FILE_FULL_EA_INFORMATION
	ReparseTag         uint32
	Reparse            []byte // REPARSE_DATA_BUFFER
	Streams            []Stream
}

// FILE_ATTRIBUTE_* that a CIM knows.
const (
	AttributeReadOnly     = 0x1
	AttributeHidden       = 0x2
	AttributeSystem       = 0x4
	AttributeDirectory    = 0x10
	AttributeArchive      = 0x20
	AttributeSparse       = 0x200
	AttributeReparsePoint = 0x400
)

var attributes = []struct {
	flag      fileFlags
	attribute uint32
}{
	{flagReadOnly, AttributeReadOnly},
	{flagHidden, AttributeHidden},
	{flagSystem, AttributeSystem},
	{flagArchive, AttributeArchive},
	{flagSparse, AttributeSparse},
}

func (f *file) attributes() (all uint32) {
	for _, a := range attributes {
		if f.Flags&a.flag != 0 {
			all |= a.attribute
		}
	}
	if f.isDir() {
		all |= AttributeDirectory
	}
	if f.isReparsePoint() {
		all |= AttributeReparsePoint
	}
	return all
}

func (n *node) metadata() (m *Metadata, err error) {
	m = &Metadata{
		FileID:         uint32(n.id),
		Attributes:     n.attributes(),
		CreationTime:   n.CreationTime.time(),
		LastWriteTime:  n.LastWriteTime.time(),
		ChangeTime:     n.ChangeTime.time(),
		LastAccessTime: n.LastAccessTime.time(),
		ReparseTag:     n.ReparseTag,
	}
	if n.SD != 0 {
		if m.SecurityDescriptor, err = n.c.counted(n.SD); err != nil {
			return nil, fmt.Errorf("security descriptor: %w", err)
		}
	}
	if n.EA != 0 {
		m.ExtendedAttributes = make([]byte, n.EALength)
		if err := n.c.read(n.EA, 0, m.ExtendedAttributes); err != nil {
			return nil, fmt.Errorf("extended attributes: %w", err)
		}
	}
	if n.Reparse != 0 {
		if m.Reparse, err = n.c.counted(n.Reparse); err != nil {
			return nil, fmt.Errorf("reparse point: %w", err)
		}
	}
	if m.Streams, err = n.streams(); err != nil {
		return nil, fmt.Errorf("alternate streams: %w", err)
	}
	return m, nil
}

// filetime is in tenths of a microsecond since 1601; 0 is no time.
type filetime uint64

func (t filetime) time() time.Time {
	if t == 0 {
		return time.Time{}
	}
	const since1601 = 11644473600 // seconds up to 1970
	return time.Unix(int64(t/1e7)-since1601, int64(t%1e7)*100).UTC()
}

// Tags of reparse points, and the bit of those that stand for another file.
const (
	tagSymlink       = 0xA000000C
	tagNameSurrogate = 0x20000000
)

// A node is an fs.DirEntry.

func (n *node) Name() string { return n.name }
func (n *node) IsDir() bool  { return n.Type().IsDir() }

// Type is as package os has it on Windows: a reparse point that stands for another file is no
// directory.
func (n *node) Type() fs.FileMode {
	switch {
	case n.isReparsePoint() && n.ReparseTag == tagSymlink:
		return fs.ModeSymlink
	case n.isDir() && !(n.isReparsePoint() && n.ReparseTag&tagNameSurrogate != 0):
		return fs.ModeDir
	case n.isReparsePoint():
		return fs.ModeIrregular
	}
	return 0
}

func (n *node) Info() (fs.FileInfo, error) {
	m, err := n.metadata()
	if err != nil {
		return nil, err
	}
	return info{n, m}, nil
}

type info struct {
	*node
	metadata *Metadata
}

func (i info) Mode() fs.FileMode {
	if i.IsDir() {
		return i.Type() | 0o555
	}
	return i.Type() | 0o444
}

func (i info) Size() int64 {
	if i.isDir() {
		return 0
	}
	return i.Default.size()
}

func (i info) ModTime() time.Time { return i.metadata.LastWriteTime }
func (i info) Sys() any           { return i.metadata }
