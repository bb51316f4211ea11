package image

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/restore/archive"
	"github.com/lithify/lithify/restore/encrypt"
	"github.com/lithify/lithify/restore/pages"
)

// AnnotationMade is at a manifest that lithify has made: the version of its form.
const AnnotationMade = "io.github.lithify.checkpoint"

// version is that of the form that Push makes.
const version = "1"

// Image is a checkpoint image that has been found.
type Image struct {
	Name       string               // the full reference
	Descriptor ocispec.Descriptor   // of the manifest
	Layer      ocispec.Descriptor   // the archive
	Packs      []ocispec.Descriptor // of memory that the archive has not, unlocked: package pages
	Checkpoint *archive.Checkpoint  // as the annotations tell of it
	Ours       bool                 // lithify has made it

	src   convert.Source
	packs []ocispec.Descriptor // as the manifest has them
	key   *encrypt.Key         // of Layer, once it is unlocked
	keys  map[digest.Digest]sealed
}

// sealed is a pack that is encrypted, and its key.
type sealed struct {
	ocispec.Descriptor
	*encrypt.Key
}

// Open reads the manifest of a checkpoint image. What is none is a [convert.RefusedError].
func Open(ctx context.Context, src convert.Source) (*Image, error) {
	refuse := func(why string) (*Image, error) {
		return nil, &convert.RefusedError{What: src.Name(), Why: why}
	}
	desc, err := src.Root(ctx)
	if err != nil {
		return nil, err
	}
	if !images.IsManifestType(desc.MediaType) {
		return refuse("is no checkpoint image: it is of type " + desc.MediaType + " and no manifest")
	}
	var m ocispec.Manifest
	if _, err := convert.FetchDocument(ctx, src, desc, &m); err != nil {
		return nil, err
	}
	cp, err := archive.FromAnnotations(m.Annotations)
	if err != nil {
		return refuse("is no checkpoint image: " + err.Error())
	}
	if len(m.Layers) == 0 {
		return refuse("has no layer, and a checkpoint has one")
	}
	for _, l := range m.Layers[1:] {
		if encrypt.PlainType(l.MediaType) != pages.MediaType {
			return refuse("has a second layer, " + l.MediaType + ", and a checkpoint has one, and packs of memory")
		}
	}
	return &Image{Name: src.Name(), Descriptor: desc, Layer: m.Layers[0], Packs: m.Layers[1:], packs: m.Layers[1:], Checkpoint: cp, Ours: m.Annotations[AnnotationMade] != "", src: src}, nil
}

// Archive opens the archive. What is read is checked: where the layer has other bytes
// than the manifest says, Read returns an error in place of io.EOF. The caller reads it to
// its end, and closes it. One that is encrypted has to be unlocked before.
func (i *Image) Archive(ctx context.Context) (io.ReadCloser, error) {
	if encrypt.Is(i.Layer) && i.key == nil {
		return nil, i.Unlock(nil)
	}
	r, err := convert.Fetch(ctx, i.src, i.Layer)
	if err != nil || i.key == nil {
		return r, err
	}
	return struct {
		io.Reader
		io.Closer
	}{i.key.Reader(r), r}, nil
}

// Encrypted says that all of it can be read by those alone who have a key, packs too.
func (i *Image) Encrypted() bool {
	return encrypt.Is(i.Layer) && !slices.ContainsFunc(i.packs, func(p ocispec.Descriptor) bool { return !encrypt.Is(p) })
}

// lookups is how many layers are asked for at a time.
const lookups = 8

// Readable refuses an image of which the source does not give each layer, by its credentials:
// a manifest may name any layer, and what a machine has of it says nothing of who asks. An
// errdefs.ErrNotFound.
func (i *Image) Readable(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(lookups)
	for _, desc := range slices.Concat([]ocispec.Descriptor{i.Layer}, i.packs) {
		g.Go(func() error {
			has, err := i.src.Has(ctx, desc)
			if err == nil && !has {
				err = fmt.Errorf("%s has no layer %s: %w", i.Name, desc.Digest, convert.ErrNotFound)
			}
			return err
		})
	}
	return g.Wait()
}

// Unlock finds the keys of what is encrypted, by one of keys: an errdefs.ErrPermissionDenied
// if there is none.
func (i *Image) Unlock(keys encrypt.Keys) error {
	wrong := func(err error) error { return fmt.Errorf("checkpoint %s: %w", i.Name, err) }
	var err error
	if encrypt.Is(i.Layer) {
		if i.key, err = keys.Unwrap(i.Layer); err != nil {
			return wrong(err)
		}
	}
	i.Packs, i.keys = slices.Clone(i.packs), map[digest.Digest]sealed{}
	for n, p := range i.packs {
		if !encrypt.Is(p) {
			continue
		}
		key, err := keys.Unwrap(p)
		if err != nil {
			return wrong(err)
		}
		i.Packs[n] = ocispec.Descriptor{MediaType: pages.MediaType, Digest: key.Plain(), Size: p.Size}
		i.keys[key.Plain()] = sealed{p, key}
	}
	return nil
}

// Unpacked names what the archive has in it, once it is unlocked. Of one that is encrypted it is
// not the layer's digest, which who has no key may name, too, and wrap another key for it, or
// say that it is not encrypted.
func (i *Image) Unpacked() digest.Digest {
	if i.key == nil {
		return i.Layer.Digest
	}
	return i.key.Name(i.Layer.Digest)
}

// Pages is where the packs are read, once they are unlocked; nil if the source does not give
// ranges.
func (i *Image) Pages() pages.Source {
	src, ok := i.src.(pages.Source)
	if !ok {
		return nil
	}
	return unlocked{src, i.keys}
}

// unlocked decrypts packs. Each chunk has a sum in the archive, which says what was changed.
type unlocked struct {
	src  pages.Source
	keys map[digest.Digest]sealed
}

// FetchRange implements pages.Source.
func (u unlocked) FetchRange(ctx context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	pack, ok := u.keys[desc.Digest]
	if !ok {
		return u.src.FetchRange(ctx, desc, off, n)
	}
	r, err := u.src.FetchRange(ctx, pack.Descriptor, off, n)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{pack.Range(r, off), r}, nil
}

// Blob is content to be published. Open is called once for each attempt; nil says that
// the target has it.
type Blob struct {
	ocispec.Descriptor
	DiffID digest.Digest // of a layer
	Open   func() (io.ReadCloser, error)
}

// Push publishes a checkpoint image: the archive, and behind it packs, if there are any. The
// blobs come first and the tag last, and only if that names still what it named in
// the beginning. With a key it is signed before it has a tag.
func Push(ctx context.Context, dst convert.Target, layers []Blob, cp *archive.Checkpoint, key ed25519.PrivateKey) (ocispec.Descriptor, error) {
	was, err := dst.Head(ctx)
	if err != nil && !errors.Is(err, convert.ErrNotFound) {
		return was, err
	}
	var descs []ocispec.Descriptor
	var diffIDs []digest.Digest
	for _, l := range layers {
		descs, diffIDs = append(descs, l.Descriptor), append(diffIDs, l.DiffID)
	}
	config, rawConfig, err := document(ocispec.MediaTypeImageConfig, ocispec.Image{
		Created:  &cp.Checkpointed,
		Platform: ocispec.Platform{OS: "linux", Architecture: cmp.Or(cp.Host.Arch, runtime.GOARCH)},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: diffIDs},
	})
	if err != nil {
		return config, err
	}
	annotations := cp.ImageAnnotations()
	annotations[AnnotationMade] = version
	manifest, raw, err := document(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   ocispec.MediaTypeImageManifest,
		Config:      config,
		Layers:      descs,
		Annotations: annotations,
	})
	if err != nil {
		return manifest, err
	}
	for _, l := range layers {
		if err := l.push(ctx, dst); err != nil {
			return manifest, err
		}
	}
	if err := convert.PushDocument(ctx, dst, config, rawConfig); err != nil {
		return manifest, err
	}
	if err := dst.PutManifest(ctx, manifest, raw); err != nil {
		return manifest, err
	}
	if key != nil {
		if err := sign(ctx, dst, manifest, cp, key); err != nil {
			return manifest, err
		}
	}
	return manifest, dst.Tag(ctx, manifest, raw, was.Digest)
}

func (b Blob) push(ctx context.Context, dst convert.Target) error {
	if b.Open == nil {
		return nil
	}
	if has, err := dst.Has(ctx, b.Descriptor); has || err != nil {
		return err
	}
	return dst.Push(ctx, b.Descriptor, b.Open)
}

func document(mediaType string, v any) (ocispec.Descriptor, []byte, error) {
	raw, err := json.Marshal(v)
	return convert.Describe(mediaType, raw), raw, err
}
