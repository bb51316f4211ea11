package upper

import (
	"encoding/binary"
	"slices"
)

// inside is the value of an extended attribute as the container has it: two name users.
// One that is not as the kernel writes it stays.
func (o Options) inside(attr, value string) string {
	if o.Owner == nil {
		return value
	}
	switch attr {
	case "security.capability":
		return o.capability(value)
	case "system.posix_acl_access", "system.posix_acl_default":
		return o.acl(value)
	}
	return value
}

// Revisions of capabilities(7), "File capability extended attribute versioning": the third
// is the second with a user behind it, who is root where they count.
const (
	capSize     = 20
	capRevision = 3 // byte of it
)

func (o Options) capability(value string) string {
	if len(value) != capSize+4 || value[capRevision] != 3 {
		return value
	}
	b := []byte(value)
	root, _ := o.owner(binary.LittleEndian.Uint32(b[capSize:]), 0)
	if root != 0 {
		binary.LittleEndian.PutUint32(b[capSize:], root)
		return string(b)
	}
	b[capRevision] = 2
	return string(b[:capSize])
}

// The entries of an ACL (linux/posix_acl_xattr.h): tag and permissions, then a user or a
// group if the tag is one of these.
const (
	aclHeader = 4
	aclEntry  = 8
	aclUser   = 0x02
	aclGroup  = 0x08
)

func (o Options) acl(value string) string {
	if len(value) < aclHeader || (len(value)-aclHeader)%aclEntry != 0 {
		return value
	}
	b := []byte(value)
	for e := range slices.Chunk(b[aclHeader:], aclEntry) {
		id := binary.LittleEndian.Uint32(e[4:])
		uid, gid := o.owner(id, id)
		switch binary.LittleEndian.Uint16(e) {
		case aclUser:
			binary.LittleEndian.PutUint32(e[4:], uid)
		case aclGroup:
			binary.LittleEndian.PutUint32(e[4:], gid)
		}
	}
	return string(b)
}
