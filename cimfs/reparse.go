package cimfs

import (
	"encoding/binary"
	"strings"
	"unicode/utf16"
)

// Tags of reparse points, of ntifs.h.
const (
	tagMountPoint = 0xA0000003
	tagSymlink    = 0xA000000C
)

// reparse is the REPARSE_DATA_BUFFER (MS-FSCC 2.1.2.4 and 2.1.2.5) of a link to target, with
// its names as go-winio has them: with a NUL behind each that is not counted.
func reparse(target string, mount bool) []byte {
	nt, relative := ntPath(target)
	substitute, print := wide(nt), wide(target)
	names := append(substitute, print...)
	tag, head := uint32(tagMountPoint), 8
	if !mount {
		tag, head = tagSymlink, 12
	}
	b := binary.LittleEndian.AppendUint32(nil, tag)
	for _, n := range []int{head + len(names), 0, 0, len(substitute) - 2, len(substitute), len(print) - 2} {
		b = binary.LittleEndian.AppendUint16(b, uint16(n))
	}
	if !mount {
		var flags uint32
		if relative {
			flags = 1 // SYMLINK_FLAG_RELATIVE
		}
		b = binary.LittleEndian.AppendUint32(b, flags)
	}
	return append(b, names...)
}

// ntPath is a path as the kernel has it, and whether it is relative to the link.
func ntPath(path string) (nt string, relative bool) {
	switch {
	case strings.HasPrefix(path, `\\?\`):
		return `\??\` + path[4:], false
	case strings.HasPrefix(path, `\\`):
		return `\??\UNC\` + path[2:], false
	case len(path) >= 2 && path[1] == ':' && ('a' <= path[0]|0x20 && path[0]|0x20 <= 'z'):
		return `\??\` + path, false
	}
	return path, true
}

// wide is s in UTF-16, with a NUL behind it.
func wide(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s + "\x00")) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// maxReparse is the most that NTFS takes (MAXIMUM_REPARSE_DATA_BUFFER_SIZE), in bytes.
const maxReparse = 16 << 10
