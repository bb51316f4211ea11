package corpus

import (
	"archive/tar"
	"encoding/binary"
	"fmt"
	"strings"
)

func (o *oddWriter) attributes() {
	x := func(name string, attrs map[string]string) {
		records := map[string]string{}
		for k, v := range attrs {
			records["SCHILY.xattr."+k] = v
		}
		h := tar.Header{Name: name, Mode: 0o644, PAXRecords: records}
		if strings.HasSuffix(name, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		o.add(h, "")
	}
	o.dir("xattrs", 0o755)
	x("xattrs/user", map[string]string{"user.one": "1", "user.two": "two words", "user.empty": ""})
	x("xattrs/binary", map[string]string{"user.bin": "\x01\x00\xff\n=\x80"})
	x("xattrs/large", map[string]string{"user.large": strings.Repeat("v", 3000)})
	x("xattrs/name", map[string]string{"user." + strings.Repeat("n", 200): "long name"})
	x("xattrs/trusted", map[string]string{"trusted.lithify": "t", "security.lithify": "s"})
	x("xattrs/capability", map[string]string{"security.capability": capability(1<<10, 0)}) // cap_net_bind_service=ep
	x("xattrs/acl", map[string]string{"system.posix_acl_access": acl(0o6, 1000, 0o4, 0o4, 0o4, 0o4)})
	x("xattrs/acl-dir/", map[string]string{
		"system.posix_acl_access":  acl(0o7, 1000, 0o7, 0o5, 0o7, 0o5),
		"system.posix_acl_default": acl(0o7, 1001, 0o5, 0o5, 0o5, 0o0),
	})
	for i := range 20 { // the same attributes again and again: shared by a good writer
		x(fmt.Sprintf("xattrs/same%d", i), map[string]string{"user.same": "same", "security.same": "same"})
	}
	x("xattrs/dir/", map[string]string{"user.dir": "d"})
	o.add(tar.Header{Name: "xattrs/link", Typeflag: tar.TypeSymlink, Linkname: "user", Mode: 0o777,
		PAXRecords: map[string]string{"SCHILY.xattr.trusted.link": "l"}}, "")
}

// capability is a VFS_CAP_REVISION_2 value with the effective bit.
func capability(permitted, inheritable uint32) string {
	var b []byte
	for _, v := range []uint32{0x02000001, permitted, inheritable, 0, 0} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return string(b)
}

// acl is an ACL of version 2 with one named user.
func acl(owner uint16, uid uint32, named, group, mask, other uint16) string {
	const none = ^uint32(0)
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, owner, none}, {2, named, uid}, {4, group, none}, {0x10, mask, none}, {0x20, other, none}} {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return string(b)
}

// whiteouts: a file, a directory, opaque marks before, after and without the
// directory's own entry, and AUFS's junk.
func (o *oddWriter) whiteouts() {
	o.dir("white", 0o755)
	o.add(tar.Header{Name: "white/.wh.gone", Mode: 0}, "")
	o.add(tar.Header{Name: "white/.wh.gone-mode", Mode: 0o444, Uid: 5}, "")
	o.dir("white/opaque-after", 0o750)
	o.file("white/opaque-after/kept", "k")
	o.add(tar.Header{Name: "white/opaque-after/.wh..wh..opq"}, "")
	o.add(tar.Header{Name: "white/opaque-before/.wh..wh..opq"}, "")
	o.dir("white/opaque-before", 0o711)
	o.file("white/opaque-before/kept", "k")
	o.add(tar.Header{Name: "white/opaque-implicit/.wh..wh..opq"}, "")
	o.file("white/opaque-implicit/kept", "k")
	o.add(tar.Header{Name: "white/implicit/.wh.gone"}, "")
	o.add(tar.Header{Name: ".wh.gone-from-root"}, "")
	o.file("white/back", "first")
	o.add(tar.Header{Name: "white/.wh.other"}, "")
	o.dir(".wh..wh.plnk", 0o700)
	o.file(".wh..wh.plnk/1.2", "junk")
	o.dir(".wh..wh.orph", 0o700)
	o.file(".wh..wh.aufs", "")
}

// implicit are directories that no entry describes.
func (o *oddWriter) implicit() {
	o.file("implicit/a/b/c/file", "i")
	o.add(tar.Header{Name: "implicit/a/b/late/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 42}, "")
	o.file("implicit/described-later/file", "i")
	o.dir("implicit/described-later", 0o711)
}

// duplicates: the last entry of a name wins, also over one of another kind.
func (o *oddWriter) duplicates() {
	o.dir("dup", 0o755)
	o.file("dup/file", "first, and longer")
	o.file("dup/file", "second")
	o.file("dup/to-link", "a file")
	o.add(tar.Header{Name: "dup/to-link", Typeflag: tar.TypeSymlink, Linkname: "file", Mode: 0o777}, "")
	o.add(tar.Header{Name: "dup/to-file", Typeflag: tar.TypeSymlink, Linkname: "file", Mode: 0o777}, "")
	o.file("dup/to-file", "a file now")
	o.file("dup/linked", "kept by its other name")
	o.add(tar.Header{Name: "dup/other", Typeflag: tar.TypeLink, Linkname: "dup/linked", Mode: 0o644}, "")
	o.file("dup/linked", "replaced")
	o.dir("dup/dir", 0o700)
	o.file("dup/dir/kept", "k")
	o.dir("dup/dir", 0o755)
	o.dir("dup", 0o751)
}
