package inspect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
)

// superblock is struct erofs_super_block (Linux fs/erofs/erofs_fs.h), at byte 1024.
type superblock []byte

const (
	superOffset = 1024
	superSize   = 128
	superMagic  = 0xE0F5E1E2
)

var le = binary.LittleEndian

func readSuper(r io.ReaderAt) (superblock, error) {
	b := make([]byte, superOffset+superSize)
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("read superblock: %w", err)
	}
	return parseSuper(b)
}

// ReadFileSystem reads the superblock of an image.
func ReadFileSystem(image io.ReaderAt) (*FileSystem, error) {
	s, err := readSuper(image)
	if err != nil {
		return nil, err
	}
	return s.fileSystem(), nil
}

// parseSuper takes the first bytes of an image.
func parseSuper(b []byte) (superblock, error) {
	if len(b) < superOffset+superSize {
		return nil, errors.New("too short for an EROFS image")
	}
	s := superblock(b[superOffset : superOffset+superSize])
	switch {
	case le.Uint32(s) != superMagic:
		return nil, errors.New("not an EROFS image")
	case s[12] < 9 || s[12] > 16:
		return nil, fmt.Errorf("an EROFS image with blocks of 2^%d bytes", s[12])
	}
	return s, nil
}

func (s superblock) blockSize() int64     { return 1 << s[12] }
func (s superblock) metaOffset() int64    { return int64(le.Uint32(s[40:])) << s[12] }
func (s superblock) incompat() uint32     { return le.Uint32(s[80:]) }
func (s superblock) extraDevices() uint16 { return le.Uint16(s[86:]) }

// size is that of the image by its count of blocks, which may be 0 where nobody counted.
func (s superblock) size() int64 { return int64(le.Uint32(s[36:])) << s[12] }

// metadata is where the metadata of an image lies that has it behind its data.
func (s superblock) metadata(blob int64) (off, n int64) {
	end := s.size()
	if end <= 0 || end > blob {
		end = blob
	}
	off = min(s.metaOffset(), end)
	return off, end - off
}

// fileSystem is what people want to know of it.
func (s superblock) fileSystem() *FileSystem {
	id, _ := uuid.FromBytes(s[48:64])
	off, _ := s.metadata(s.size())
	return &FileSystem{
		UUID:      id.String(),
		BlockSize: s.blockSize(),
		Blocks:    int64(le.Uint32(s[36:])),
		Inodes:    le.Uint64(s[16:]),
		Metadata:  off,
		Devices:   int(s.extraDevices()),
		Features:  s.features(),
	}
}

// features are those that a reader has to know, as dump.erofs calls them.
func (s superblock) features() (list []string) {
	if le.Uint32(s[8:])&1 != 0 {
		list = append(list, "sb_csum")
	}
	if le.Uint32(s[8:])&2 != 0 {
		list = append(list, "mtime")
	}
	for bit, name := range []string{"0padding", "compr_cfgs", "chunked_file", "device_table", "ztailpacking", "fragments", "xattr_prefixes", "48bit"} {
		if s.incompat()&(1<<bit) != 0 {
			list = append(list, name)
		}
	}
	return list
}
