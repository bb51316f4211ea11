package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"strings"

	"github.com/containerd/errdefs"
	goerofs "github.com/erofs/go-erofs"
)

// ErrMetadataOnly is what reading a file gives in a tree from [OpenMetadata].
var ErrMetadataOnly = errors.New("only the metadata of this image is at hand")

// Open gives the tree of a raw image. It reads with go-erofs, which shares
// nothing with Convert.
//
// An image from outside is checked as it is read: what does not hold together
// gives an error, not a panic. Open and Stat follow symbolic links inside the
// image. The tree may be used from several goroutines if r may.
//
// Files of other devices are read where the device table has them in the addresses of r: see
// [Join].
func Open(r io.ReaderAt) (fs.ReadLinkFS, error) {
	var head [headSize]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, fmt.Errorf("read superblock: %w", err)
	}
	if err := checkSuper(head[:]); err != nil {
		return nil, err
	}
	devices, err := devicesOf(r, head[:])
	if err != nil {
		return nil, err
	}
	img, err := goerofs.Open(r, goerofs.WithExtraDevices(devices...))
	if err != nil {
		return nil, err
	}
	return newTreeFS(img)
}

// checkSuper refuses what the reader cannot take or what is damaged.
func checkSuper(head []byte) error {
	b := head[superOffset:]
	le := binary.LittleEndian
	switch {
	case le.Uint32(b) != superMagic:
		return errors.New("not an EROFS image")
	case b[12] != uint8(blocks4K) && b[12] != uint8(blocks512):
		return fmt.Errorf("EROFS image with blocks of 2^%d bytes, only 512 and 4096 are read here: %w", b[12], errdefs.ErrNotImplemented)
	case le.Uint32(b[8:])&featureCompatChecksum != 0 && le.Uint32(b[4:]) != superChecksum(b):
		return errors.New("damaged EROFS image: the superblock's checksum does not match")
	}
	return nil
}

// OpenMetadata gives the tree of an image of which only the first 4096 bytes and the
// metadata are at hand. Stat, ReadDir and ReadLink work; reading a file gives
// [ErrMetadataOnly].
func OpenMetadata(super, meta []byte, span Span) (fs.ReadLinkFS, error) {
	if len(super) != headSize || int64(len(meta)) != span.Size {
		return nil, fmt.Errorf("metadata of %d and %d bytes instead of %d and %d", len(super), len(meta), headSize, span.Size)
	}
	return Open(&metadataView{super, meta, span.Offset})
}

// metadataView is an image with nothing but its head and the metadata.
type metadataView struct {
	super, meta []byte
	offset      int64
}

func (v *metadataView) ReadAt(p []byte, off int64) (int, error) {
	end := v.offset + int64(len(v.meta))
	if off >= v.offset && off < end {
		return readAt(v.meta, p, off-v.offset)
	}
	if off < 0 || off >= headSize {
		return 0, ErrMetadataOnly
	}
	n, err := readAt(v.super, p, off)
	if err == io.EOF {
		err = ErrMetadataOnly
	}
	return n, err
}

func readAt(b, p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// AttrOf gives the attributes of a file in a tree from Open or OpenMetadata.
// Set-id and sticky bits are in place.
func AttrOf(info fs.FileInfo) (Attr, error) {
	st, ok := info.Sys().(*goerofs.Stat)
	if !ok {
		return Attr{}, fmt.Errorf("%s: not a file of an EROFS image", info.Name())
	}
	return Attr{Mode: unixMode(st.Mode), UID: st.UID, GID: st.GID, Xattrs: fixXattrs(st.Xattrs)}, nil
}

// unixMode gives the permission bits as in stat(2).
func unixMode(m fs.FileMode) uint16 {
	mode := uint16(m.Perm())
	for _, b := range []struct {
		is  fs.FileMode
		bit uint16
	}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}} {
		if m&b.is != 0 {
			mode |= b.bit
		}
	}
	return mode
}

// fixXattrs undoes a fault of go-erofs v0.3.1, which puts a dot behind the names
// of POSIX ACLs.
func fixXattrs(from map[string]string) Xattrs {
	if len(from) == 0 {
		return nil
	}
	x := maps.Clone(from)
	for name, value := range from {
		if fixed, ok := strings.CutSuffix(name, "."); ok && strings.HasPrefix(name, "system.posix_acl_") {
			delete(x, name)
			x[fixed] = value
		}
	}
	return x
}

// LowerFileOf describes a file of such a tree for [Context.Links]. The target of
// a symbolic link, and Digest and Open of a regular file, are left to the caller.
func LowerFileOf(info fs.FileInfo) (LowerFile, error) {
	attr, err := AttrOf(info)
	if err != nil {
		return LowerFile{}, err
	}
	f := LowerFile{Attr: attr, Type: info.Mode().Type(), ModTime: info.ModTime()}
	switch {
	case f.Type == 0:
		f.Size = info.Size()
	case f.Type&fs.ModeDevice != 0:
		f.Rdev = info.Sys().(*goerofs.Stat).Rdev
	}
	return f, nil
}

// RdevOf gives the device number of a device in such a tree, as Linux' new_encode_dev.
func RdevOf(info fs.FileInfo) (uint32, error) {
	st, ok := info.Sys().(*goerofs.Stat)
	if !ok || info.Mode()&fs.ModeDevice == 0 {
		return 0, fmt.Errorf("%s: not a device of an EROFS image", info.Name())
	}
	return st.Rdev, nil
}

// IsWhiteout reports whether info is overlayfs' whiteout, a character device 0:0.
func IsWhiteout(info fs.FileInfo) bool {
	st, ok := info.Sys().(*goerofs.Stat)
	return ok && info.Mode().Type() == fs.ModeDevice|fs.ModeCharDevice && st.Rdev == 0
}

// IsOpaque reports whether info is a directory that hides what lower layers
// have in it.
func IsOpaque(info fs.FileInfo) bool {
	st, ok := info.Sys().(*goerofs.Stat)
	return ok && info.IsDir() && st.Xattrs[opaqueXattr] == "y"
}
