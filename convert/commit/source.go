package commit

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/pack"
	"github.com/lithify/lithify/convert/stack"
)

// source is the image of a container as package convert reads one: what was made of the
// container, what containerd has of the base image, and the rest from where that came.
type source struct {
	name    string
	content content.Provider

	root  ocispec.Descriptor
	made  map[digest.Digest][]byte
	layer *pack.Layer

	image    string // the base image's name; "": only what is here is read
	fallback func(image string) (convert.Source, error)
	mu       sync.Mutex
	opened   map[string]convert.Source
}

func newSource(c *stack.Container, fallback func(string) (convert.Source, error)) *source {
	return &source{
		name: "container:" + c.ID(), content: c.Content(),
		made: map[digest.Digest][]byte{}, fallback: fallback, opened: map[string]convert.Source{},
	}
}

func (s *source) close() error {
	if s.layer == nil {
		return nil
	}
	return s.layer.Close()
}

// Name implements convert.Source.
func (s *source) Name() string { return s.name }

// Root implements convert.Source.
func (s *source) Root(context.Context) (ocispec.Descriptor, error) { return s.root, nil }

// Referrers implements convert.Source: nobody refers to what is made only now.
func (s *source) Referrers(context.Context, digest.Digest) ([]ocispec.Descriptor, error) {
	return nil, nil
}

// Holds reports whether desc was made here, or containerd has it, which took it in by its
// digest: who may commit its containers may have that.
func (s *source) Holds(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	r, err := s.here(ctx, desc)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, r.Close()
}

// Has implements convert.Source.
func (s *source) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if held, err := s.Holds(ctx, desc); held || err != nil {
		return held, err
	}
	src, err := s.elsewhere()
	if src == nil || err != nil {
		return false, err
	}
	return src.Has(ctx, desc)
}

// Fetch implements convert.Source.
func (s *source) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	r, err := s.here(ctx, desc)
	if err == nil || !errdefs.IsNotFound(err) {
		return r, err
	}
	src, ferr := s.elsewhere()
	if ferr != nil {
		return nil, ferr
	}
	if src == nil {
		return nil, err
	}
	return src.Fetch(ctx, desc)
}

// here opens what was made and what containerd has.
func (s *source) here(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if raw, ok := s.made[desc.Digest]; ok {
		return io.NopCloser(bytes.NewReader(raw)), nil
	}
	if s.layer != nil && s.layer.Descriptor.Digest == desc.Digest {
		return s.layer.Open(), nil
	}
	ra, err := s.content.ReaderAt(ctx, desc)
	if err != nil {
		return nil, fmt.Errorf("read %s of containerd: %w", desc.Digest, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{content.NewReader(ra), ra}, nil
}

// elsewhere is where the base image came from; nil if that is not to be asked.
func (s *source) elsewhere() (convert.Source, error) {
	if s.fallback == nil || s.image == "" {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	src, ok := s.opened[s.image]
	if ok {
		return src, nil
	}
	src, err := s.fallback(s.image)
	if err == nil {
		s.opened[s.image] = src
	}
	return src, err
}
