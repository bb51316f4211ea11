package differ

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	"github.com/containerd/containerd/v2/contrib/diffservice"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"

	"github.com/lithify/lithify/cimfs"
)

// Run serves a at l until ctx is done, and ends when the layers are that it was writing.
func Run(ctx context.Context, l net.Listener, a *Applier) error {
	s := grpc.NewServer()
	diffapi.RegisterDiffServer(s, diffservice.FromApplierAndComparer(a, nil))
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		s.GracefulStop()
	})
	err := s.Serve(l)
	if stop() {
		return err
	}
	<-stopped
	return err
}

// Applier places block CIMs where a mount says.
type Applier struct {
	// Content has the blobs. It is asked in the namespace of each request.
	Content Content
	// Merged places merged CIMs, too, see [Applier.Apply].
	Merged bool
	Log    *slog.Logger
}

// Content is a containerd's content store.
type Content interface {
	content.Provider
	// ListStatuses tells what is being fetched.
	ListStatuses(ctx context.Context, filters ...string) ([]content.Status, error)
}

// maxWindow bounds the memory that a zstd frame asks for.
const maxWindow = 128 << 20

// Apply writes the block of a layer to the file of a mount of the snapshotter blockcim, and
// gives its digest, which an image's config has as the layer's DiffID. On any error nothing is
// left of it. A layer of another media type is an errdefs.ErrNotImplemented.
//
// With Merged, and a topmost layer whose image brings what joins its layers, that gets its place
// beside the block, where the snapshotter else makes it for the image's first container. It is
// no part of what a snapshot is found by: whoever can have an image pulled decides what others
// with the same layers have.
func (a *Applier) Apply(ctx context.Context, desc ocispec.Descriptor, mounts []mount.Mount, opts ...diff.ApplyOpt) (ocispec.Descriptor, error) {
	if desc.MediaType != cimfs.MediaTypeLayer && desc.MediaType != cimfs.MediaTypeLayerZstd {
		return ocispec.Descriptor{}, fmt.Errorf("%s is not of a block CIM: %w", desc.MediaType, errdefs.ErrNotImplemented)
	}
	began := time.Now()
	applied, err := a.apply(ctx, desc, mounts, opts)
	if err != nil {
		a.Log.ErrorContext(ctx, "block CIM not placed", "digest", desc.Digest, "err", err)
		return ocispec.Descriptor{}, fmt.Errorf("block CIM %s: %w", desc.Digest, err)
	}
	a.Log.InfoContext(ctx, "block CIM placed", "digest", desc.Digest, "size", applied.Size, "took", time.Since(began))
	return applied, nil
}

func (a *Applier) apply(ctx context.Context, desc ocispec.Descriptor, mounts []mount.Mount, opts []diff.ApplyOpt) (none ocispec.Descriptor, err error) {
	var config diff.ApplyConfig
	for _, o := range opts {
		if err := o(ctx, desc, &config); err != nil {
			return none, err
		}
	}
	p, err := placeOf(desc, mounts)
	if err != nil {
		return none, err
	}
	p.sync = config.SyncFs
	ns, err := namespaces.NamespaceRequired(ctx)
	if err != nil {
		return none, err
	}
	ctx = namespaces.WithNamespace(ctx, ns)
	blob, err := a.Content.ReaderAt(ctx, desc)
	if err != nil {
		return none, err
	}
	defer blob.Close()
	applied, err := p.place(ctx, blob, desc)
	if err == nil && a.Merged {
		err = a.applyMerged(ctx, p, desc)
	}
	if err != nil {
		return none, err
	}
	return applied, nil
}

// place puts a blob's block where p says.
func (p *place) place(ctx context.Context, blob content.ReaderAt, desc ocispec.Descriptor) (none ocispec.Descriptor, err error) {
	// Each read of the blob is a call of containerd.
	r := &verified{bufio.NewReaderSize(content.NewReader(blob), 1<<20), desc.Digest.Verifier()}
	block, err := decompress(r, desc.MediaType)
	if err != nil {
		return none, err
	}
	defer block.Close()
	return p.put(ctx, block)
}

// verified ends as what it reads does, if it has read what its verifier is of.
type verified struct {
	io.Reader
	verifier digest.Verifier
}

func (v *verified) Read(b []byte) (int, error) {
	n, err := v.Reader.Read(b)
	v.verifier.Write(b[:n])
	if err == io.EOF && !v.verifier.Verified() {
		err = fmt.Errorf("the content store has other bytes: %w", errdefs.ErrDataLoss)
	}
	return n, err
}

func decompress(r io.Reader, mediaType string) (io.ReadCloser, error) {
	if mediaType == cimfs.MediaTypeLayer {
		return io.NopCloser(r), nil
	}
	dec, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	return dec.IOReadCloser(), nil
}
