package vhd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/uuid"
)

// layout is a footer as it lies on the disk.
type layout struct {
	Cookie         [8]byte
	Features       uint32
	Version        uint32
	DataOffset     uint64
	Created        uint32 // seconds since epoch
	Creator        [4]byte
	CreatorVersion uint32
	CreatorOS      [4]byte
	OriginalSize   uint64
	Size           uint64
	Geometry       uint32
	Type           uint32
	Checksum       uint32
	ID             uuid.UUID
	SavedState     uint8
	Reserved       [427]byte
}

const (
	cookie         = "conectix"
	featureAlways  = 2 // "reserved, must always be set"
	version        = 0x00010000
	noDataOffset   = 1<<64 - 1
	creatorVersion = 0x000a0000 // hcsshim's
	typeFixed      = 2

	checksumOffset = 64
)

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (f *Footer) encode() []byte {
	l := layout{
		Features:       featureAlways,
		Version:        version,
		DataOffset:     noDataOffset,
		CreatorVersion: creatorVersion,
		OriginalSize:   uint64(f.DiskSize),
		Size:           uint64(f.DiskSize),
		Type:           typeFixed,
		ID:             f.ID,
	}
	copy(l.Cookie[:], cookie)
	var b [Size]byte
	if _, err := binary.Encode(b[:], binary.BigEndian, l); err != nil {
		panic(err) // of a layout of another size
	}
	binary.BigEndian.PutUint32(b[checksumOffset:], checksum(b))
	return b[:]
}

func decode(b [Size]byte) (*Footer, error) {
	var l layout
	if _, err := binary.Decode(b[:], binary.BigEndian, &l); err != nil {
		return nil, err
	}
	switch {
	case string(l.Cookie[:]) != cookie:
		return nil, fmt.Errorf("no VHD footer: %w", errdefs.ErrNotFound)
	case l.Checksum != checksum(b):
		return nil, fmt.Errorf("damaged VHD footer: its checksum is %08x, of its bytes %08x: %w", l.Checksum, checksum(b), errdefs.ErrInvalidArgument)
	case l.Version != version:
		return nil, fmt.Errorf("VHD footer of version %#x: only 1.0 is known: %w", l.Version, errdefs.ErrInvalidArgument)
	case l.Type != typeFixed:
		return nil, fmt.Errorf("VHD footer of a disk of type %d: only fixed disks are a blob and a footer: %w", l.Type, errdefs.ErrInvalidArgument)
	case l.Size > 1<<63-1:
		return nil, fmt.Errorf("VHD footer of a disk of %d bytes: %w", l.Size, errdefs.ErrInvalidArgument)
	}
	return &Footer{
		ID:       l.ID,
		DiskSize: int64(l.Size),
		Created:  epoch.Add(time.Duration(l.Created) * time.Second),
		Creator:  strings.TrimRight(string(bytes.ToValidUTF8(l.Creator[:], nil)), "\x00 "),
	}, nil
}

// checksum is the complement of the sum of all bytes but its own.
func checksum(b [Size]byte) uint32 {
	var sum uint32
	for i, c := range b {
		if i < checksumOffset || i >= checksumOffset+4 {
			sum += uint32(c)
		}
	}
	return ^sum
}
