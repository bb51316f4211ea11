package erofs

import (
	"cmp"
	"io"

	"github.com/opencontainers/go-digest"
)

// File is where [Convert] writes a blob: an empty *os.File, for example. It is
// written with WriteAt and Write is never called; bytes are read back with
// ReadAt for the digests. Convert neither syncs, truncates nor closes it.
type File interface {
	io.Writer
	io.WriterAt
	io.ReaderAt
}

// Options of [Convert]; the zero value converts one layer by itself.
type Options struct {
	Profile Profile // default ProfileRaw
	// Bottom says that no layer lies below: whiteouts and opaque marks are
	// stripped, together with directories that only they imply.
	Bottom bool
	// InlineTails puts the last bytes of files, those that do not fill a block of 4 KiB,
	// behind their inodes: a smaller image, whose metadata holds up to 1 GiB of contents.
	// Not of ProfileTar and ProfileIndex.
	InlineTails bool
	Context     *Context // answers to Needs; nil: none
	Limits      Limits
	// TarSize is how long the tar is likely to be, in bytes, for ProfileTar; 0: unknown.
	// Where it is right, the blob is written in order and not read back. The bytes are
	// the same.
	TarSize int64
	// Serial keeps everything on the caller's goroutine, which costs less
	// processor time when several layers are converted at once. The bytes are
	// the same.
	Serial bool
	// Carrier is the digest of the blob that the tar comes from: the device's tag, of
	// ProfileIndex. Default the tar's own.
	Carrier digest.Digest
	// Verity puts a dm-verity tree behind the image (Layer.Verity), not of ProfileTar and ProfileIndex, and has the blob's
	// fs-verity digest computed. It takes a third of a second of processor time more for
	// each of the two and GiB.
	Verity bool
	// TempDir is where lies what memory is not to grow by: hashes of a dm-verity tree, 8
	// MiB for each GiB of an image over 4 GiB, and file contents that have to wait for the
	// metadata, from 8 MiB on. Default os.TempDir().
	TempDir string
	// Unhashed leaves out every digest, which are most of the processor's time of a
	// conversion, for an image that is mounted where it is made. The Layer's
	// digests and UUID are empty, and the file system has that UUID.
	Unhashed bool
	// Progress, if set, is called on Convert's goroutine with the number of tar
	// bytes read so far, about once for each 256 KiB.
	Progress func(n int64)
}

// Limits bound what a tar may ask for; zero fields are those of [DefaultLimits].
// They are counted while the tar streams by.
type Limits struct {
	Bytes     int64 // of the tar, and of the image
	FileBytes int64 // of one file, holes included
	Entries   int64 // entries, implied directories and pieces of sparse files
	PathLen   int64 // of a name or hard link target
	PAXBytes  int64 // of one PAX, long name or sparse map header
	// MetaBytes are of what is held in memory here, or by who looks into the result:
	// names, link targets, xattrs (32 more for each), the full paths of implied
	// directories and the chunk indexes of sparse files. The tree itself takes some
	// 300 more for each of Entries.
	MetaBytes int64
}

// DefaultLimits are far above what real layers need and below what would hurt.
var DefaultLimits = Limits{
	Bytes:     64 << 30, // the largest layers in use hold model weights
	FileBytes: 1 << 40,
	Entries:   2_000_000,
	PathLen:   4096,    // PATH_MAX
	PAXBytes:  1 << 20, // what archive/tar accepts
	MetaBytes: 1 << 30,
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Bytes:     cmp.Or(l.Bytes, DefaultLimits.Bytes),
		FileBytes: cmp.Or(l.FileBytes, DefaultLimits.FileBytes),
		Entries:   cmp.Or(l.Entries, DefaultLimits.Entries),
		PathLen:   cmp.Or(l.PathLen, DefaultLimits.PathLen),
		PAXBytes:  cmp.Or(l.PAXBytes, DefaultLimits.PAXBytes),
		MetaBytes: cmp.Or(l.MetaBytes, DefaultLimits.MetaBytes),
	}
}

func (l Limits) bytesError() error {
	return &LimitError{Limit: "bytes", Max: l.Bytes, Flag: "--max-bytes"}
}

func (l Limits) entriesError() error {
	return &LimitError{Limit: "entries", Max: l.Entries, Flag: "--max-entries"}
}

func (l Limits) metaError() error {
	return &LimitError{Limit: "bytes of names and attributes", Max: l.MetaBytes, Flag: "--max-meta-bytes"}
}
