package inflate

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

// Flags of a gzip header, RFC 1952 section 2.3.1.
const (
	flagHeaderCRC = 1 << 1
	flagExtra     = 1 << 2
	flagName      = 1 << 3
	flagComment   = 1 << 4

	// maxString is compress/gzip's limit of a name or comment with its NUL.
	maxString = 512
)

// header reads the header of a member. Where there is none, it says io.EOF.
func (z *Reader) header() error {
	if z.ip == z.end {
		if err := z.fill(); err != nil {
			if z.srcErr == io.EOF {
				return io.EOF
			}
			return err
		}
	}
	z.crc = 0
	var p [10]byte
	if err := z.headerBytes(p[:]); err != nil {
		return err
	}
	if p[0] != 0x1f || p[1] != 0x8b || p[2] != 8 {
		if z.members > 0 {
			return errTrailing
		}
		return ErrHeader
	}
	if err := z.headerFields(p[3]); err != nil {
		return err
	}
	z.crc, z.size = 0, 0
	z.start, z.summed = z.op, z.op
	z.step = (*Reader).blockHeader
	return nil
}

// headerFields skips the fields that flags announce and checks their CRC.
func (z *Reader) headerFields(flags byte) error {
	var p [2]byte
	if flags&flagExtra != 0 {
		if err := z.headerBytes(p[:]); err != nil {
			return err
		}
		for range binary.LittleEndian.Uint16(p[:]) {
			if err := z.headerBytes(p[:1]); err != nil {
				return err
			}
		}
	}
	for _, flag := range []byte{flagName, flagComment} {
		if flags&flag != 0 {
			if err := z.headerString(); err != nil {
				return err
			}
		}
	}
	if flags&flagHeaderCRC != 0 {
		want := uint16(z.crc)
		if err := z.bytes(p[:]); err != nil {
			return err
		}
		if binary.LittleEndian.Uint16(p[:]) != want {
			return ErrHeader
		}
	}
	return nil
}

func (z *Reader) headerString() error {
	var p [1]byte
	for range maxString {
		if err := z.headerBytes(p[:]); err != nil {
			return err
		}
		if p[0] == 0 {
			return nil
		}
	}
	return ErrHeader
}

// headerBytes reads bytes that count for the header's CRC.
func (z *Reader) headerBytes(p []byte) error {
	err := z.bytes(p)
	z.crc = crc32.Update(z.crc, crc32.IEEETable, p)
	return err
}

// trailer checks the member's data and goes on to the next header.
func (z *Reader) trailer() error {
	z.sum()
	z.take(z.n & 7)
	var p [8]byte
	if err := z.bytes(p[:]); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(p[:]) != z.crc || binary.LittleEndian.Uint32(p[4:]) != z.size {
		return ErrChecksum
	}
	z.members++
	z.step = (*Reader).header
	return nil
}
