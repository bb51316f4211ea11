package erofs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/converter"
	"github.com/containerd/containerd/v2/pkg/labels"
	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ConvertOpt is an option of [LayerConvertFunc].
type ConvertOpt func(*storeConverter)

// WithProfile chooses the output format; the default is [ProfileRaw]. [ProfileIndex] is an error:
// it takes a layer more, which a converter of single layers cannot add.
func WithProfile(p Profile) ConvertOpt { return func(c *storeConverter) { c.opts.Profile = p } }

// WithDialect chooses the media types; the default is [DialectLegacy].
func WithDialect(d Dialect) ConvertOpt { return func(c *storeConverter) { c.dialect = d } }

// WithVerity puts a dm-verity tree behind each image, and its root digest and the
// blob's fs-verity digest into the layer's annotations.
func WithVerity() ConvertOpt { return func(c *storeConverter) { c.opts.Verity = true } }

// WithLimits bounds the layers.
func WithLimits(l Limits) ConvertOpt { return func(c *storeConverter) { c.opts.Limits = l } }

type storeConverter struct {
	opts    Options
	dialect Dialect
}

// LayerConvertFunc is Convert for containerd's converter: ctr and nerdctl's
// image convert, for example. It takes Docker and OCI layers, plain, gzip or
// zstd, leaves everything else alone, and stores the result with the label that
// names its DiffID.
//
// It sees one layer at a time: directories that a layer uses but does not list
// become 0755 root, whiteouts stay in a bottom layer, and a hard link to a lower
// layer or an opaque mark in the root is an [*UnresolvedError]. Package convert has none of these limits.
func LayerConvertFunc(opts ...ConvertOpt) converter.ConvertFunc {
	c := storeConverter{opts: Options{Profile: ProfileRaw}, dialect: DialectLegacy}
	for _, o := range opts {
		o(&c)
	}
	return c.convert
}

func (c *storeConverter) convert(ctx context.Context, cs content.Store, desc ocispec.Descriptor) (_ *ocispec.Descriptor, err error) {
	if !images.IsLayerType(desc.MediaType) || images.IsNonDistributable(desc.MediaType) || IsLayerMediaType(desc.MediaType) {
		return nil, nil
	}
	if c.opts.Profile == ProfileIndex {
		return nil, fmt.Errorf("convert %s: profile %s takes a layer more, which a converter of single layers cannot add; convert the whole image (lithify convert)", desc.Digest, ProfileIndex)
	}
	f, err := os.CreateTemp("", "lithify-*.erofs")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	l, err := c.convertBlob(ctx, cs, desc, f)
	if err != nil {
		return nil, fmt.Errorf("convert %s: %w", desc.Digest, err)
	}
	if err := c.store(ctx, cs, desc, f, l); err != nil {
		return nil, fmt.Errorf("store %s: %w", l.Digest, err)
	}
	return c.descriptor(desc, l), nil
}

func (c *storeConverter) convertBlob(ctx context.Context, cs content.Store, desc ocispec.Descriptor, f *os.File) (*Layer, error) {
	ra, err := cs.ReaderAt(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer ra.Close()
	tar, err := decompress(content.NewReader(ra), desc.MediaType)
	if err != nil {
		return nil, err
	}
	defer tar.Close()
	return Convert(ctx, f, tar, c.opts)
}

// maxWindow bounds the memory a zstd frame may ask for. zstd's own limit for
// decoders without --long is 128 MiB.
const maxWindow = 128 << 20

// decompress opens a layer's tar by its media type.
func decompress(r io.Reader, mediaType string) (io.ReadCloser, error) {
	switch mediaType {
	case images.MediaTypeDockerSchema2Layer, ocispec.MediaTypeImageLayer:
		return io.NopCloser(r), nil
	case images.MediaTypeDockerSchema2LayerGzip, ocispec.MediaTypeImageLayerGzip:
		return gzip.NewReader(r)
	case images.MediaTypeDockerSchema2LayerZstd, ocispec.MediaTypeImageLayerZstd:
		dec, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return dec.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("media type %q: want a Docker or OCI layer, plain, gzip or zstd", mediaType)
}

// store commits the blob under the source's labels and that of its DiffID.
func (c *storeConverter) store(ctx context.Context, cs content.Store, desc ocispec.Descriptor, f *os.File, l *Layer) error {
	info, err := cs.Info(ctx, desc.Digest)
	if err != nil {
		return err
	}
	marks := maps.Clone(info.Labels)
	if marks == nil {
		marks = map[string]string{}
	}
	marks[labels.LabelUncompressed] = l.ImageDigest.String()
	made := ocispec.Descriptor{MediaType: c.dialect.MediaType(l.Profile), Digest: l.Digest, Size: l.Size}
	ref := "lithify-erofs-" + desc.Digest.String() + "-" + string(l.Profile) + "-" + l.Digest.Encoded()
	err = content.WriteBlob(ctx, cs, ref, io.NewSectionReader(f, 0, l.Size), made, content.WithLabels(marks))
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	return nil
}

// tarAnnotations begin the names of those that describe the inside of a tar: of
// eStargz and zstd:chunked.
var tarAnnotations = []string{"containerd.io/snapshot/stargz/", "io.containers.estargz.", "io.github.containers.zstd-chunked."}

// descriptor is the source's with what changed, and without what would still be
// about the tar. The spec's role is left out: a layer alone does not know whether
// it is the top one.
func (c *storeConverter) descriptor(desc ocispec.Descriptor, l *Layer) *ocispec.Descriptor {
	made := c.dialect.Descriptor(l, true)
	annotations := maps.Clone(desc.Annotations)
	maps.DeleteFunc(annotations, func(name, _ string) bool {
		return slices.ContainsFunc(tarAnnotations, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
	})
	if annotations == nil {
		annotations = made.Annotations
	} else {
		maps.Copy(annotations, made.Annotations)
	}
	desc.MediaType, desc.Digest, desc.Size, desc.Annotations = made.MediaType, made.Digest, made.Size, annotations
	desc.Data, desc.URLs = nil, nil
	return &desc
}
