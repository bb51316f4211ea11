// Package vhd makes a fixed virtual hard disk of a blob: it appends the footer of one, takes it
// off and reads it. Windows attaches a block CIM to a virtual machine as such a disk. [Append]
// is where to start.
//
// The footer is that of "Hard Disk Footer Format" in Microsoft's "Virtual Hard Disk Image Format
// Specification", version 1.0 of October 11, 2006: 512 bytes, big endian. All but the ID, and the
// checksum over it, is as hcsshim's ext4/tar2ext4 writes it. hcsshim draws the ID at random; here
// it follows from the content, so that equal blobs make equal disks. Whether Windows minds two
// disks of one ID was never tried.
//
// The geometry is zero, as hcsshim's is: qemu-img 7.2 takes both for empty disks, unless its
// driver vpc is told force_size_calc=current_size.
//
// A disk is a whole number of sectors of 512 bytes. hcsshim neither checks that nor pads, so it
// relies on its blobs being of such a size; a blob of another is refused here: padding would add
// bytes that nobody has sealed.
package vhd

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
)

// Size is that of a footer, and of a sector.
const Size = 512

// Footer is what a footer says of its disk.
type Footer struct {
	ID       uuid.UUID `json:"id"`
	DiskSize int64     `json:"diskSize"` // bytes before the footer
	Created  time.Time `json:"created"`  // 2000-01-01 in footers of this package, and of hcsshim
	Creator  string    `json:"creator"`  // up to four letters of an application, none in these
}

// Append puts a footer behind the content of f, whose SHA-256 the caller knows. A file that has
// one is an errdefs.ErrAlreadyExists, one that is no whole number of sectors an
// errdefs.ErrInvalidArgument.
func Append(f *os.File, content digest.Digest) (*Footer, error) {
	_, err := Read(f)
	if err == nil {
		return nil, fmt.Errorf("%s has a VHD footer: %w", f.Name(), errdefs.ErrAlreadyExists)
	}
	if !errdefs.IsNotFound(err) {
		return nil, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	footer, err := footerOf(size, content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	if _, err := f.WriteAt(footer.encode(), size); err != nil {
		return nil, errors.Join(err, f.Truncate(size))
	}
	return footer, nil
}

// footerOf is the footer of a disk of size bytes. Its ID is of the digest of its content.
func footerOf(size int64, content digest.Digest) (*Footer, error) {
	if size == 0 || size%Size != 0 {
		return nil, fmt.Errorf("%d bytes are not one or more sectors of %d: %w", size, Size, errdefs.ErrInvalidArgument)
	}
	if err := content.Validate(); err != nil || content.Algorithm() != digest.SHA256 {
		return nil, fmt.Errorf("%q is no SHA-256 digest: %w", content, errdefs.ErrInvalidArgument)
	}
	sum, err := hex.DecodeString(content.Encoded())
	if err != nil {
		return nil, err
	}
	id := uuid.UUID(sum[:16])
	id[6] = id[6]&0x0f | 0x80 // version 8 of RFC 9562: the maker's own
	id[8] = id[8]&0x3f | 0x80
	return &Footer{ID: id, DiskSize: size, Created: epoch}, nil
}

// Strip cuts the footer off f. It refuses what [Read] does.
func Strip(f *os.File) (*Footer, error) {
	footer, err := Read(f)
	if err != nil {
		return nil, err
	}
	return footer, f.Truncate(footer.DiskSize)
}

// Read reads the footer of f. One that is not there is an errdefs.ErrNotFound, one whose checksum
// or size is wrong, or that is not of a fixed disk, an errdefs.ErrInvalidArgument.
func Read(f *os.File) (*Footer, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	if size < Size {
		return nil, fmt.Errorf("%s has no VHD footer: %w", f.Name(), errdefs.ErrNotFound)
	}
	var b [Size]byte
	if _, err := f.ReadAt(b[:], size-Size); err != nil {
		return nil, err
	}
	footer, err := decode(b)
	if err == nil && footer.DiskSize != size-Size {
		err = fmt.Errorf("the VHD footer is of a disk of %d bytes, behind %d: %w", footer.DiskSize, size-Size, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return footer, nil
}
