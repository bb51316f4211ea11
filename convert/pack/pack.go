// Package pack makes layers of tars: compressed into a file while they are written, with
// both digests.
package pack

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
)

// Compression is how a layer's tar travels.
type Compression string

// The compressions of the OCI image spec's layers.
const (
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
	None Compression = "none"
)

// Parse reads one; "" is Gzip.
func Parse(s string) (Compression, error) {
	switch c := Compression(s); c {
	case "":
		return Gzip, nil
	case Gzip, Zstd, None:
		return c, nil
	}
	return "", fmt.Errorf("compression %q is none of gzip, zstd, none: %w", s, errdefs.ErrInvalidArgument)
}

func (c Compression) mediaType() string {
	switch c {
	case Zstd:
		return ocispec.MediaTypeImageLayerZstd
	case None:
		return ocispec.MediaTypeImageLayer
	}
	return ocispec.MediaTypeImageLayerGzip
}

// compress gives bytes that depend on the input alone.
func (c Compression) compress(w io.Writer) (io.WriteCloser, error) {
	switch c {
	case Zstd:
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedDefault))
	case None:
		return struct {
			io.Writer
			io.Closer
		}{w, io.NopCloser(nil)}, nil
	}
	return gzip.NewWriterLevel(w, gzip.DefaultCompression)
}

// Layer is a tar that is compressed into a file as it is written. It has a descriptor and
// can be read once Finish has returned.
type Layer struct {
	Descriptor ocispec.Descriptor
	DiffID     digest.Digest // of the tar

	file *convert.Scratch
	pack io.WriteCloser
	tar  hash.Hash
	blob hash.Hash
	size int64 // of the tar
	told func(size int64)
	ends io.Writer // of the tar
}

// New makes a layer in a temporary file in dir, or in os.TempDir(). told, if it is not nil,
// hears how many bytes of the tar there are, of each piece that is written.
func New(dir string, c Compression, told func(size int64)) (*Layer, error) {
	c, err := Parse(string(c))
	if err != nil {
		return nil, err
	}
	f, err := convert.TempFile(dir)
	if err != nil {
		return nil, err
	}
	l := &Layer{file: f, told: told, tar: sha256.New(), blob: sha256.New(), Descriptor: ocispec.Descriptor{MediaType: c.mediaType()}}
	if l.pack, err = c.compress(io.MultiWriter(f, l.blob)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l.ends = io.MultiWriter(l.tar, l.pack)
	return l, nil
}

// Write adds to the tar.
func (l *Layer) Write(p []byte) (int, error) {
	n, err := l.ends.Write(p)
	l.size += int64(n)
	if l.told != nil {
		l.told(l.size)
	}
	return n, err
}

// Finish ends the layer.
func (l *Layer) Finish() error {
	if err := l.pack.Close(); err != nil {
		return fmt.Errorf("write layer: %w", err)
	}
	size, err := l.file.Seek(0, io.SeekCurrent)
	l.Descriptor.Size = size
	l.Descriptor.Digest = digest.NewDigest(digest.SHA256, l.blob)
	l.DiffID = digest.NewDigest(digest.SHA256, l.tar)
	return err
}

// Open reads the blob from its beginning, beside others who do.
func (l *Layer) Open() io.ReadCloser {
	return io.NopCloser(io.NewSectionReader(l.file, 0, l.Descriptor.Size))
}

// Close removes the file.
func (l *Layer) Close() error { return l.file.Close() }
