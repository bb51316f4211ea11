package commit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/erofs"
)

// base is the image that a container stands on, as tar layers.
type base struct {
	image    ocispec.Descriptor // that holds the manifest, or is it
	desc     ocispec.Descriptor
	manifest ocispec.Manifest
	config   ocispec.Image
	raw      []byte // of the config
}

func (b *base) platform() ocispec.Platform { return b.config.Platform }

// chain is the name of the snapshot that containerd makes of the layers.
func (b *base) chain() string { return identity.ChainID(b.config.RootFS.DiffIDs).String() }

// hasTars reports whether all layers are tars.
func (b *base) hasTars() bool {
	for _, l := range b.manifest.Layers {
		if erofs.IsLayerMediaType(l.MediaType) {
			return false
		}
	}
	return true
}

// Base names the image that a container stands on.
type Base struct {
	Name     string             // that containerd has it by
	Image    ocispec.Descriptor // what the name stands for there: an index or the manifest
	Manifest ocispec.Descriptor // of the tar layers
	Config   ocispec.Descriptor // by whose digest other engines know the image
	Platform ocispec.Platform
}

// Pinned is the image by its digest, under which its registry has it whatever becomes of
// the tag.
func (b Base) Pinned() string {
	name := b.Name
	if ref, err := reference.ParseDockerRef(name); err == nil {
		name = reference.TrimNamed(ref).Name()
	}
	return name + "@" + b.Image.Digest.String()
}

// FindBase finds out which image c stands on. fallback is that of [Options]. An image that
// is not there any more is an errdefs.ErrFailedPrecondition.
func FindBase(ctx context.Context, c *stack.Container, fallback func(image string) (convert.Source, error)) (Base, error) {
	s := newSource(c, fallback)
	b, err := s.findBase(ctx, c)
	if err != nil {
		return Base{}, err
	}
	return Base{s.image, b.image, b.desc, b.manifest.Config, b.platform()}, nil
}

// findBase finds the image on whose layers the container's snapshot stands: what the
// name of its image says now may be a later one. If it is made of EROFS layers, the
// base is what they were converted from. What containerd has is looked at first, and
// what the registry has of the container's image only then.
func (s *source) findBase(ctx context.Context, c *stack.Container) (*base, error) {
	parent, err := c.Parent(ctx)
	if err != nil {
		return nil, err
	}
	all, err := c.Images(ctx)
	if err != nil {
		return nil, err
	}
	var odd error // of images that are others': anybody may have pulled anything
	for _, img := range all {
		b, err := s.baseIn(ctx, img, parent)
		if b != nil || s.image != "" || errdefs.IsUnavailable(err) || ctx.Err() != nil {
			return b, err
		}
		if !errdefs.IsNotFound(err) {
			odd = errors.Join(odd, err)
		}
	}
	if len(all) > 0 && all[0].Name == c.Image() {
		s.image = c.Image()
		b, err := s.baseIn(ctx, all[0], parent)
		if b != nil || err != nil {
			return b, err
		}
	}
	return nil, errors.Join(fmt.Errorf("none of containerd's %d images has the layers that container %s stands on (snapshot %s): pull again what it was made from, %s at that time: %w",
		len(all), c.ID(), parent.Name, c.Image(), errdefs.ErrFailedPrecondition), odd)
}

// baseIn looks for the base in one image: in all of its manifests that can be read.
func (s *source) baseIn(ctx context.Context, img images.Image, parent stack.Parent) (*base, error) {
	descs := []ocispec.Descriptor{img.Target}
	if images.IsIndexType(img.Target.MediaType) {
		var index ocispec.Index
		if _, err := s.document(ctx, img.Target, &index); err != nil {
			return nil, err
		}
		descs = index.Manifests
	}
	var odd error
	for _, d := range descs {
		if !images.IsManifestType(d.MediaType) || d.Annotations["vnd.docker.reference.type"] != "" {
			continue
		}
		b, err := s.readBase(ctx, d)
		if errdefs.IsNotFound(err) {
			continue // of a platform that was not pulled
		}
		if err != nil {
			odd = errors.Join(odd, fmt.Errorf("image %s: %w", img.Name, err))
			continue
		}
		if !parent.Is(b.chain()) {
			continue
		}
		s.image = img.Name
		if !b.hasTars() {
			if b, err = s.original(ctx, b, descs); err != nil {
				return nil, err
			}
		}
		b.image = img.Target
		return b, nil
	}
	return nil, odd
}

// original reads the manifest that an EROFS variant was made from.
func (s *source) original(ctx context.Context, variant *base, descs []ocispec.Descriptor) (*base, error) {
	from := variant.manifest.Annotations[convert.AnnotationSource]
	for _, d := range descs {
		if from == "" || d.Digest.String() != from {
			continue
		}
		b, err := s.readBase(ctx, d)
		if err != nil {
			return nil, err
		}
		if b.hasTars() {
			return b, nil
		}
	}
	return nil, fmt.Errorf("the container's layers are EROFS and the image does not hold the tars that they were made from (convert without --replace keeps them): %w", errdefs.ErrFailedPrecondition)
}

func (s *source) readBase(ctx context.Context, desc ocispec.Descriptor) (*base, error) {
	b := &base{desc: desc}
	if _, err := s.document(ctx, desc, &b.manifest); err != nil {
		return nil, err
	}
	if !images.IsConfigType(b.manifest.Config.MediaType) {
		return nil, fmt.Errorf("manifest %s is of no image: %w", desc.Digest, errdefs.ErrNotFound)
	}
	var err error
	if b.raw, err = s.document(ctx, b.manifest.Config, &b.config); err != nil {
		return nil, err
	}
	if len(b.config.RootFS.DiffIDs) != len(b.manifest.Layers) {
		return nil, fmt.Errorf("config %s lists %d layers and its manifest %d: %w", b.manifest.Config.Digest, len(b.config.RootFS.DiffIDs), len(b.manifest.Layers), errdefs.ErrFailedPrecondition)
	}
	return b, nil
}

// maxDocument is containerd's own limit on a manifest.
const maxDocument = 4 << 20

// document reads and verifies a manifest, index or config.
func (s *source) document(ctx context.Context, desc ocispec.Descriptor, v any) ([]byte, error) {
	if desc.Size > maxDocument {
		return nil, fmt.Errorf("document %s has %d bytes, which are too many: %w", desc.Digest, desc.Size, errdefs.ErrFailedPrecondition)
	}
	r, err := s.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	if desc.Digest.Validate() != nil || desc.Digest.Algorithm().FromBytes(raw) != desc.Digest {
		return nil, fmt.Errorf("document %s has other bytes: %w", desc.Digest, errdefs.ErrFailedPrecondition)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return nil, fmt.Errorf("document %s: %w", desc.Digest, err)
	}
	return raw, nil
}
