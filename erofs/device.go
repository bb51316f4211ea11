package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxDevices is how many other devices an image may have that is read here.
const maxDevices = 64

// slotsOf reads the device table of an image, of which head is the beginning.
func slotsOf(r io.ReaderAt, head []byte) ([]deviceSlot, error) {
	b := head[superOffset:]
	if binary.LittleEndian.Uint32(b[80:])&featureIncompatDevices == 0 {
		return nil, nil
	}
	n := int(binary.LittleEndian.Uint16(b[86:]))
	if n > maxDevices {
		return nil, fmt.Errorf("EROFS image with %d other devices: at most %d are read here: %w", n, maxDevices, errdefs.ErrNotImplemented)
	}
	table := make([]byte, n*slotSize)
	if _, err := r.ReadAt(table, int64(binary.LittleEndian.Uint16(b[88:]))*slotSize); n > 0 && err != nil {
		return nil, fmt.Errorf("read device table: %w", err)
	}
	slots := make([]deviceSlot, n)
	for i := range slots {
		slots[i] = decodeSlot(table[i*slotSize:])
	}
	return slots, nil
}

// devicesOf gives the other devices of an image, as r has them.
func devicesOf(r io.ReaderAt, head []byte) (devices []io.ReaderAt, err error) {
	slots, err := slotsOf(r, head)
	if err != nil {
		return nil, err
	}
	bits := head[superOffset+12]
	for _, s := range slots {
		if s.at == 0 {
			return nil, fmt.Errorf("EROFS image with a device that has no place in its addresses, only those that have are read here: %w", errdefs.ErrNotImplemented)
		}
		devices = append(devices, io.NewSectionReader(r, int64(s.at)<<bits, int64(s.blocks)<<bits))
	}
	return devices, nil
}

// Join gives an image of [ProfileIndex] and the tar that its files lie in as one, which [Open]
// reads as it does any image. Linux mounts a file of these bytes, too, without device=. Of the
// tar only the first size bytes are used, and none yet. Neither is closed.
func Join(image, tar io.ReaderAt) (joined io.ReaderAt, size int64, err error) {
	slots, bits, err := slotsIn(image)
	if err != nil {
		return nil, 0, err
	}
	if len(slots) != 1 || slots[0].at == 0 {
		return nil, 0, fmt.Errorf("not an image of profile %s: it has %d other devices", ProfileIndex, len(slots))
	}
	size = int64(slots[0].blocks) << bits
	return &wholeImage{image, io.NewSectionReader(tar, 0, size), int64(slots[0].at) << bits}, size, nil
}

// DeviceTags gives the tags of an image's other devices: digests of blobs, in hexadecimal.
func DeviceTags(image io.ReaderAt) (tags []string, err error) {
	slots, _, err := slotsIn(image)
	for _, s := range slots {
		tags = append(tags, s.tag)
	}
	return tags, err
}

// slotsIn reads the device table of an image of blocks of 1<<bits bytes.
func slotsIn(image io.ReaderAt) (slots []deviceSlot, bits byte, err error) {
	var head [headSize]byte
	if _, err := image.ReadAt(head[:], 0); err != nil {
		return nil, 0, fmt.Errorf("read superblock: %w", err)
	}
	if err := checkSuper(head[:]); err != nil {
		return nil, 0, err
	}
	slots, err = slotsOf(image, head[:])
	return slots, head[superOffset+12], err
}

// TagOf is the tag of a device that is, or comes out of, a blob.
func TagOf(blob digest.Digest) string { return blob.Encoded()[:min(len(blob.Encoded()), slotTag)] }

// wholeImage has a tar behind an image.
type wholeImage struct {
	image, tar io.ReaderAt
	at         int64 // where the tar begins
}

func (j *wholeImage) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("read at a negative offset")
	}
	if off < j.at {
		n, err = j.image.ReadAt(p[:min(int64(len(p)), j.at-off)], off)
		if n == len(p) {
			return n, nil
		}
		if off += int64(n); off < j.at {
			return n, err // before the end of what the superblock says that there is
		}
	}
	k, err := j.tar.ReadAt(p[n:], off-j.at)
	return n + k, err
}

// Carrier describes the blob that a layer of [ProfileIndex] has its files in, in a manifest,
// where it stands before that layer. desc is how the source's manifest has it.
func Carrier(desc ocispec.Descriptor) ocispec.Descriptor {
	notes := map[string]string{}
	maps.Copy(notes, desc.Annotations)
	notes[AnnotationRole] = RoleDevice
	desc.Annotations = notes
	return desc
}

// Mounted is a layer of a manifest that is mounted by itself.
type Mounted struct {
	ocispec.Descriptor
	// Devices are the layers before it that it has files in, in the order of its device table.
	Devices []ocispec.Descriptor
	Number  int // of the layer in the manifest, from 0
}

// MountedOf gives the layers of an EROFS variant that are mounted on each other, bottom first
// (2.4, 3.8). Other stacks than of such layers, with devices of tars perhaps, are an error that
// names the layer.
func MountedOf(layers []ocispec.Descriptor) (list []Mounted, err error) {
	var devices []ocispec.Descriptor
	for i, d := range layers {
		switch role := d.Annotations[AnnotationRole]; {
		case role == RoleDevice:
			devices = append(devices, d)
		case !IsLayerMediaType(d.MediaType) || role != "" && role != RoleOverlayLower:
			return nil, fmt.Errorf("layer %s (%s, role %q) is no EROFS layer of a plain stack, which is all that is read here", d.Digest, d.MediaType, role)
		default:
			list = append(list, Mounted{d, devices, i})
			devices = nil
		}
	}
	if len(devices) > 0 {
		return nil, fmt.Errorf("layer %s is a device, and no EROFS layer comes after it", devices[0].Digest)
	}
	return list, nil
}
