package erofs

import (
	"io"
	"io/fs"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
)

// Layer is the record of a conversion. It is stored as JSON.
type Layer struct {
	Profile Profile `json:"profile"`

	// TarDigest and TarSize are of the whole decompressed tar, trailing bytes
	// included: the DiffID of the source layer.
	TarDigest digest.Digest `json:"tarDigest"`
	TarSize   int64         `json:"tarSize"`

	// Digest and Size are of the blob that Convert wrote.
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`

	// ImageDigest and ImageSize are of the EROFS image with the dm-verity tree behind
	// it: the new DiffID. For ProfileRaw they equal Digest and Size.
	ImageDigest digest.Digest `json:"imageDigest"`
	ImageSize   int64         `json:"imageSize"`

	Verity *Verity `json:"verity,omitempty"`
	// FSVerity is fs-verity's digest of the blob, as `fsverity digest` computes it; of
	// layers that have Verity.
	FSVerity digest.Digest `json:"fsVerity,omitempty"`

	Metadata Span `json:"metadata"`
	// Chunks is where the index of a ProfileZstd blob's frames lies.
	Chunks *ChunkIndex `json:"chunks,omitempty"`

	Needs   Needs     `json:"needs,omitzero"`
	Entries int       `json:"entries"` // entries of the tar
	UUID    uuid.UUID `json:"uuid"`    // of the file system
}

// Span is where the metadata of an image lies: with the first 4096 bytes it is all that is
// needed to look at the tree.
type Span struct {
	Offset     int64 `json:"offset"`     // in the image, a multiple of 4096
	Size       int64 `json:"size"`       // in the image, to its end but for a dm-verity tree
	BlobOffset int64 `json:"blobOffset"` // in the blob; for ProfileZstd a frame begins there
	// Digest is of the first 4096 bytes followed by the Size bytes at Offset.
	Digest digest.Digest `json:"digest"`
}

// Needs lists what a tar leaves to the layers below it, each sorted by bytes.
// Paths are relative to the layer's root, which is ".".
type Needs struct {
	// Dirs are directories the tar uses but does not list. They become 0755,
	// 0:0, without xattrs, unless the context says otherwise.
	Dirs []string `json:"dirs,omitempty"`
	// Links are the targets of hard links that the layer does not hold.
	Links []string `json:"links,omitempty"`
	// RootNames says that an opaque mark in the root hides all of the layers below.
	// overlayfs does not heed the mark there, so every name in their root is hidden
	// by itself.
	RootNames bool `json:"rootNames,omitempty"`
}

// IsZero reports whether the layer stands by itself.
func (n Needs) IsZero() bool { return len(n.Dirs) == 0 && len(n.Links) == 0 && !n.RootNames }

// Attr is what a directory hands up to a layer that uses but does not list it.
type Attr struct {
	Mode   uint16 `json:"mode"` // permission, set-id and sticky bits: 07777
	UID    uint32 `json:"uid"`
	GID    uint32 `json:"gid"`
	Xattrs Xattrs `json:"xattrs,omitempty"`
}

// DefaultDirMode is the mode of a directory nobody describes.
const DefaultDirMode = 0o755

// IsDefaultDir reports whether a directory with these attributes is what
// Convert makes of one it knows nothing about. An opaque mark says something
// about the layer it stands in alone.
func (a Attr) IsDefaultDir() bool {
	for name := range a.Xattrs {
		if name != opaqueXattr {
			return false
		}
	}
	return a.Mode == DefaultDirMode && a.UID == 0 && a.GID == 0
}

// Xattrs are extended attributes by full name. In JSON the values are base64:
// they are bytes, not text.
type Xattrs map[string]string

// LowerFile is a file of a lower layer to which a layer holds a hard link.
type LowerFile struct {
	Attr
	Type    fs.FileMode   `json:"type,omitempty"`   // type bits alone: 0 is a regular file
	ModTime time.Time     `json:"modTime"`          // to the nanosecond
	Size    int64         `json:"size,omitempty"`   // of a regular file, in bytes
	Target  string        `json:"target,omitempty"` // of a symbolic link
	Rdev    uint32        `json:"rdev,omitempty"`   // of a device, as Linux' new_encode_dev
	Digest  digest.Digest `json:"digest,omitempty"` // of a regular file's content; checked while copying
	// Open reads a regular file's content. Convert closes what it returns, and
	// calls it at most once for each conversion.
	Open func() (io.ReadCloser, error) `json:"-"`
}

// Context answers [Needs].
type Context struct {
	Dirs  map[string]Attr      `json:"dirs,omitempty"`
	Links map[string]LowerFile `json:"links,omitempty"`
	// RootNames are those that can be seen in the root of the layers below; nil:
	// unknown.
	RootNames []string `json:"rootNames,omitzero"`
}
