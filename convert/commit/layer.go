package commit

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

// ParseCompression reads one; "" is Gzip.
func ParseCompression(s string) (Compression, error) {
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

// layer is a tar that is compressed into a file as it is written.
type layer struct {
	file   *convert.Scratch
	pack   io.WriteCloser
	tar    hash.Hash
	blob   hash.Hash
	size   int64 // of the tar
	told   func(convert.Event)
	ends   io.Writer // of the tar
	desc   ocispec.Descriptor
	diffID digest.Digest
}

func newLayer(dir string, c Compression, told func(convert.Event)) (*layer, error) {
	c, err := ParseCompression(string(c))
	if err != nil {
		return nil, err
	}
	f, err := convert.TempFile(dir)
	if err != nil {
		return nil, err
	}
	l := &layer{file: f, told: told, tar: sha256.New(), blob: sha256.New(), desc: ocispec.Descriptor{MediaType: c.mediaType()}}
	if l.pack, err = c.compress(io.MultiWriter(f, l.blob)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l.ends = io.MultiWriter(l.tar, l.pack)
	return l, nil
}

// Write tells of each piece: to read a container takes as long as it is large, and is
// a sign of life.
func (l *layer) Write(p []byte) (int, error) {
	n, err := l.ends.Write(p)
	l.size += int64(n)
	if l.told != nil {
		l.told(convert.Event{Phase: "read", Done: l.size})
	}
	return n, err
}

// finish ends the layer, which can be read from then on.
func (l *layer) finish() error {
	if err := l.pack.Close(); err != nil {
		return fmt.Errorf("write layer: %w", err)
	}
	size, err := l.file.Seek(0, io.SeekCurrent)
	l.desc.Size = size
	l.desc.Digest = digest.NewDigest(digest.SHA256, l.blob)
	l.diffID = digest.NewDigest(digest.SHA256, l.tar)
	return err
}

func (l *layer) open() io.ReadCloser {
	return io.NopCloser(io.NewSectionReader(l.file, 0, l.desc.Size))
}

func (l *layer) Close() error { return l.file.Close() }
