package checkpoint

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/restore/archive"
)

// Native reads the index of a checkpoint that containerd's own client has made, from an OCI layout
// or an archive of one. What is none is a [convert.RefusedError].
func Native(ctx context.Context, src convert.Source) (n archive.Native, err error) {
	desc, err := src.Root(ctx)
	if err != nil {
		return n, err
	}
	if !images.IsIndexType(desc.MediaType) {
		return n, noNative(src.Name(), desc)
	}
	n.Fetch = func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
		return convert.Fetch(ctx, src, desc)
	}
	_, err = convert.FetchDocument(ctx, src, desc, &n.Index)
	return n, err
}

// Stored is Native of an image that a containerd has, which must not be closed before n has
// been read.
func Stored(ctx context.Context, d *stack.Daemon, image string) (n archive.Native, err error) {
	img, err := d.Client().ImageService().Get(ctx, image)
	if err != nil {
		return n, fmt.Errorf("containerd's image: %w", err)
	}
	if !images.IsIndexType(img.Target.MediaType) {
		return n, noNative(image, img.Target)
	}
	store := d.Client().ContentStore()
	n.Fetch = func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
		r, err := store.ReaderAt(ctx, desc)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{content.NewReader(r), r}, nil
	}
	raw, err := content.ReadBlob(ctx, store, img.Target)
	if err == nil {
		err = json.Unmarshal(raw, &n.Index)
	}
	return n, err
}

func noNative(name string, desc ocispec.Descriptor) error {
	return &convert.RefusedError{What: name, Why: "is no checkpoint of containerd's: it is of type " + desc.MediaType + " and no index"}
}
