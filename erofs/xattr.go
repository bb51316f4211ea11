package erofs

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
)

// xattr is one extended attribute by its full name.
type xattr struct{ name, value string }

// xattrHeld is what an attribute takes in memory besides its bytes.
const xattrHeld = 32

// Limits of the format (erofs_fs.h) and of Linux (limits.h).
const (
	maxXattrName  = 255       // XATTR_NAME_MAX, and e_name_len is a byte
	maxXattrValue = 1<<16 - 1 // e_value_size
	xattrAlign    = 4
	// maxXattrs is the most that i_xattr_icount can count, in bytes, less the room
	// for opaqueMark, which any directory may get.
	maxXattrs = xattrHeaderSize + (1<<16-2)*4 - opaqueSize

	tooManyXattrs = "its extended attributes take more than 262 kB, which is all EROFS can hold"

	xattrHeaderSize = 12
	xattrEntrySize  = 4

	opaqueXattr   = "trusted.overlay.opaque"
	overlayXattrs = "trusted.overlay."
	opaqueSize    = (xattrEntrySize + len("overlay.opaque") + len("y") + xattrAlign - 1) / xattrAlign * xattrAlign
)

var opaqueMark = xattr{opaqueXattr, "y"}

// xattrPrefixes are the name prefixes of the format. Those of POSIX ACLs are
// whole names.
var xattrPrefixes = []struct {
	prefix string
	index  uint8
	whole  bool
}{
	{"user.", 1, false},
	{"system.posix_acl_access", 2, true},
	{"system.posix_acl_default", 3, true},
	{"trusted.", 4, false},
	{"security.", 6, false},
}

// split gives the prefix index of the format and the rest of the name.
func (x xattr) split() (index uint8, suffix string, ok bool) {
	for _, p := range xattrPrefixes {
		if suffix, ok := strings.CutPrefix(x.name, p.prefix); ok && (suffix == "") == p.whole {
			return p.index, suffix, true
		}
	}
	return 0, "", false
}

// foreign reports whether Linux knows no such attribute, like macOS'
// com.apple.quarantine. containerd goes on where it cannot set one of those.
func (x xattr) foreign() bool {
	for _, p := range xattrPrefixes {
		if strings.HasPrefix(x.name, p.prefix) && !(p.whole && len(x.name) > len(p.prefix)) {
			return false
		}
	}
	return true
}

// check says what is wrong with an attribute from outside.
func (x xattr) check() string {
	_, _, known := x.split()
	switch {
	case x.name == "":
		return "an extended attribute without a name"
	case !known && !x.foreign():
		return "the extended attribute " + x.name + " has no name behind its prefix"
	case strings.HasPrefix(x.name, overlayXattrs):
		return "the extended attribute " + x.name + " would change how the layers are stacked; remove it when the layer is made"
	case len(x.name) > maxXattrName:
		return "the name of the extended attribute " + x.name + " is longer than 255 bytes"
	case strings.IndexByte(x.name, 0) >= 0:
		return "NUL in the name of an extended attribute"
	case known && len(x.value) > maxXattrValue:
		return "the value of the extended attribute " + x.name + " is longer than 65535 bytes"
	}
	return ""
}

func compareXattrs(a, b xattr) int {
	ai, as, _ := a.split()
	bi, bs, _ := b.split()
	return cmp.Or(cmp.Compare(ai, bi), strings.Compare(as, bs))
}

// size is what the attribute takes behind an inode, in bytes.
func (x xattr) size() int {
	_, suffix, _ := x.split()
	return align(xattrEntrySize+len(suffix)+len(x.value), xattrAlign)
}

// sizeOf is what the attributes take behind an inode, in bytes.
func sizeOf(list []xattr) int {
	if len(list) == 0 {
		return 0
	}
	size := xattrHeaderSize
	for _, x := range list {
		size += x.size()
	}
	return size
}

// merge sets every attribute of add, which names none twice, and keeps the order
// in which the format stores them. A tar can name one directory a million times,
// so this must not cost more than add is long, and sorting what is there would.
func (m *more) merge(add []xattr) {
	fresh := make([]xattr, 0, len(add))
	for _, x := range add {
		i, found := slices.BinarySearchFunc(m.xattrs, x, compareXattrs)
		if !found {
			fresh = append(fresh, x)
			continue
		}
		m.xattrSize += int32(x.size() - m.xattrs[i].size())
		m.xattrs[i] = x
	}
	if len(fresh) == 0 {
		return
	}
	slices.SortFunc(fresh, compareXattrs)
	if len(m.xattrs) == 0 {
		m.xattrs, m.xattrSize = fresh, int32(sizeOf(fresh))
		return
	}
	m.xattrSize += int32(sizeOf(fresh) - xattrHeaderSize)
	m.insert(fresh)
}

// insert puts attributes in order among those that are there, from the back so
// that each is moved once.
func (m *more) insert(fresh []xattr) {
	end := len(m.xattrs)
	m.xattrs = append(m.xattrs, fresh...)
	for k, x := range slices.Backward(fresh) {
		i, _ := slices.BinarySearchFunc(m.xattrs[:end], x, compareXattrs)
		copy(m.xattrs[i+k+1:], m.xattrs[i:end])
		m.xattrs[i+k] = x
		end = i
	}
}

// appendXattrs encodes the attributes as struct erofs_xattr_ibody_header and
// the entries behind it.
func appendXattrs(b []byte, list []xattr) []byte {
	if len(list) == 0 {
		return b
	}
	b = append(b, make([]byte, xattrHeaderSize)...)
	for _, x := range list {
		index, suffix, _ := x.split()
		b = append(b, uint8(len(suffix)), index)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(x.value)))
		b = append(b, suffix...)
		b = append(b, x.value...)
		pad := -(xattrEntrySize + len(suffix) + len(x.value)) & (xattrAlign - 1)
		b = append(b, make([]byte, pad)...)
	}
	return b
}

func align[T int | int64 | uint32](n, to T) T { return (n + to - 1) / to * to }
