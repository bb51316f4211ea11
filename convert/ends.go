package convert

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Source is where an image is read from: a tag or digest in a registry, an OCI
// layout, an archive. Its methods are called from many goroutines. Their errors
// say what was being done, to what and where: nobody adds that again.
type Source interface {
	// Name is the full reference, without credentials; two that are equal name
	// the same place.
	Name() string
	// Root resolves the reference. It asks the registry once; every later call
	// gives the same descriptor, so a tag that moves meanwhile does no harm.
	Root(ctx context.Context) (ocispec.Descriptor, error)
	// Fetch opens the content desc names. The caller closes it and checks digest
	// and size: a Source may hand out whatever the other side sent.
	Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
	// Has reports whether the content is there for this Source's credentials. It
	// asks the other side each time.
	Has(ctx context.Context, desc ocispec.Descriptor) (bool, error)
	// Referrers lists what refers to dgst: the referrers API or its tag fallback,
	// and cosign's sha256-<hex>.{sig,att,sbom} tags.
	Referrers(ctx context.Context, dgst digest.Digest) ([]ocispec.Descriptor, error)
}

// Target is where an image is written to: a tag in a registry or an OCI layout.
// Its methods are called from many goroutines.
type Target interface {
	Source
	// Push uploads a blob that Has denies. open is called once for each attempt.
	Push(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) error
	// Mount asks for a blob that another repository of the same registry holds,
	// without sending its bytes. It reports false where that is not possible.
	Mount(ctx context.Context, desc ocispec.Descriptor, from Source) (bool, error)
	// PutManifest stores a manifest or index under its digest.
	PutManifest(ctx context.Context, desc ocispec.Descriptor, raw []byte) error
	// Head asks what the tag names now; ErrNotFound if it names nothing.
	Head(ctx context.Context) (ocispec.Descriptor, error)
	// WithTag is the target of another tag in the same repository or layout.
	WithTag(tag string) (Target, error)
	// Tag makes the tag name desc if it still names was (empty: nothing), else
	// ErrTagMoved. desc has been stored by PutManifest. A tag that names desc
	// already is no error, whatever was says: an attempt may be made again.
	Tag(ctx context.Context, desc ocispec.Descriptor, raw []byte, was digest.Digest) error
}

var (
	// ErrNotFound says that the registry or layout holds no such thing. It is an
	// errdefs.ErrNotFound.
	ErrNotFound = fmt.Errorf("convert: %w", errdefs.ErrNotFound)
	// ErrTagMoved says that somebody else moved the tag meanwhile. It is an
	// errdefs.ErrAborted.
	ErrTagMoved = fmt.Errorf("the tag was moved by somebody else meanwhile (%w)", errdefs.ErrAborted)
)
