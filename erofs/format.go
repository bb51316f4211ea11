package erofs

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/google/uuid"
)

// The on-disk format: Linux fs/erofs/erofs_fs.h. Everything is little endian.
const (
	superOffset = 1024
	superMagic  = 0xE0F5E1E2

	featureCompatChecksum  = 1 << 0 // EROFS_FEATURE_COMPAT_SB_CHKSUM
	featureCompatMtime     = 1 << 1 // EROFS_FEATURE_COMPAT_MTIME
	featureIncompatChunked = 1 << 2 // EROFS_FEATURE_INCOMPAT_CHUNKED_FILE
	featureIncompatDevices = 1 << 3 // EROFS_FEATURE_INCOMPAT_DEVICE_TABLE

	inodeSize  = 64 // struct erofs_inode_extended
	nidUnit    = 32 // of inode addresses
	direntSize = 12

	// Data layouts of an inode.
	layoutFlatPlain  = 0
	layoutFlatInline = 2
	layoutChunked    = 4

	// rootNID keeps clear of inode number 0, which some readers of directories
	// take for a deleted entry.
	rootNID = 2
)

// fileTypes are the directory entries' types (EROFS_FT_*).
var fileTypes = map[uint16]uint8{sIFREG: 1, sIFDIR: 2, sIFCHR: 3, sIFBLK: 4, sIFIFO: 5, sIFSOCK: 6, sIFLNK: 7}

// superblock is what struct erofs_super_block says about an image.
type superblock struct {
	bits      blockLog
	inodes    uint64
	blocks    uint32
	metaBlock uint32
	uuid      uuid.UUID
	chunked   bool
	unsummed  bool // fsck.erofs 1.8.6 crashes on a checksum where blocks are of 512 bytes
	device    *deviceSlot
}

// deviceSlot is a struct erofs_deviceslot. at is where the device lies in the addresses of the
// image (mapped_blkaddr, or uniaddr), 0: nowhere.
type deviceSlot struct {
	tag    string
	blocks uint32
	at     uint32
}

const (
	slotSize = 128 // and the unit of devt_slotoff
	slotTag  = 64
	// deviceTable is where it is in images that are made here.
	deviceTable = superOffset + 128
)

func (d *deviceSlot) encode(b []byte) {
	copy(b[:slotTag], d.tag)
	binary.LittleEndian.PutUint32(b[slotTag:], d.blocks)
	binary.LittleEndian.PutUint32(b[slotTag+4:], d.at)
}

func decodeSlot(b []byte) deviceSlot {
	return deviceSlot{string(cString(b[:slotTag])), binary.LittleEndian.Uint32(b[slotTag:]), binary.LittleEndian.Uint32(b[slotTag+4:])}
}

// tarMagic begins an image of [ProfileTar]. Readers of EROFS skip what precedes the
// superblock.
const tarMagic = "lithitar"

// tarHead is the head of an image around a tar of so many bytes. What is known later than
// that is left out: the UUID, and how many inodes and blocks there are, of which the kernel
// tells statfs alone.
func tarHead(size int64) []byte {
	super := superblock{bits: blocks512, metaBlock: uint32((headSize + blocks512.up(size)) >> blocks512), chunked: true, unsummed: true}
	head := super.encode()
	copy(head, tarMagic)
	binary.LittleEndian.PutUint64(head[len(tarMagic):], uint64(size))
	return head
}

// TarSizeOf gives the size of the tar in an image of [ProfileTar], in bytes, of which head
// is the first 4096 bytes or more. It reports false for any other image.
func TarSizeOf(head []byte) (int64, bool) {
	if len(head) < headSize || string(head[:len(tarMagic)]) != tarMagic {
		return 0, false
	}
	size := int64(binary.LittleEndian.Uint64(head[len(tarMagic):]))
	return size, size >= 0
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode gives the image's head.
func (s *superblock) encode() []byte {
	head := make([]byte, headSize)
	b := head[superOffset:]
	le := binary.LittleEndian
	le.PutUint32(b, superMagic)
	le.PutUint32(b[8:], featureCompatMtime)
	b[12] = uint8(s.bits)
	le.PutUint16(b[14:], rootNID)
	le.PutUint64(b[16:], s.inodes)
	le.PutUint32(b[36:], s.blocks)
	le.PutUint32(b[40:], s.metaBlock)
	copy(b[48:], s.uuid[:])
	if s.chunked {
		le.PutUint32(b[80:], featureIncompatChunked)
	}
	if s.device != nil {
		le.PutUint32(b[80:], le.Uint32(b[80:])|featureIncompatDevices)
		le.PutUint16(b[86:], 1)
		le.PutUint16(b[88:], deviceTable/slotSize)
		s.device.encode(head[deviceTable:])
	}
	if !s.unsummed {
		le.PutUint32(b[8:], featureCompatChecksum|featureCompatMtime)
		le.PutUint32(b[4:], superChecksum(b))
	}
	return head
}

// superChecksum is of the rest of the head from the superblock on, whose own
// checksum field counts as zero.
func superChecksum(b []byte) uint32 {
	sum := crc32.Update(0, castagnoli, b[:4])
	sum = crc32.Update(sum, castagnoli, make([]byte, 4))
	return ^crc32.Update(sum, castagnoli, b[8:])
}

// appendInode encodes struct erofs_inode_extended. tail says that contents
// follow it inline; number is for 32-bit stat.
func (n *inode) appendInode(b []byte, bits blockLog, tail bool, number uint32) []byte {
	le := binary.LittleEndian
	layout, data := uint16(layoutFlatPlain), n.data
	switch {
	case n.chunkBits > 0:
		layout, data = layoutChunked, chunkIndexFormat|uint32(n.chunkBits-uint8(bits))
	case n.isDir() || n.mode&sIFMT == sIFLNK:
		data = n.extra
	}
	if tail {
		layout = layoutFlatInline
	}
	b = le.AppendUint16(b, layout<<1|1)
	b = le.AppendUint16(b, n.xattrUnits())
	b = le.AppendUint16(b, n.mode)
	b = le.AppendUint16(b, 0)
	b = le.AppendUint64(b, uint64(n.size))
	b = le.AppendUint32(b, data)
	b = le.AppendUint32(b, number)
	b = le.AppendUint32(b, n.uid)
	b = le.AppendUint32(b, n.gid)
	b = le.AppendUint64(b, uint64(n.sec))
	b = le.AppendUint32(b, n.nsec)
	b = le.AppendUint32(b, n.nlink)
	return append(b, make([]byte, 16)...)
}

func (n *inode) attrs() []xattr {
	if n.more == nil {
		return nil
	}
	return n.xattrs
}

// xattrUnits is i_xattr_icount.
func (n *inode) xattrUnits() uint16 {
	if body := n.xattrBody(); body > 0 {
		return uint16((body-xattrHeaderSize)/xattrAlign + 1)
	}
	return 0
}

// xattrBody is the size of the attributes behind the inode, in bytes.
func (n *inode) xattrBody() int {
	if n.more == nil {
		return 0
	}
	return int(n.xattrSize)
}
