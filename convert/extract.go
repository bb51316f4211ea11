package convert

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/containerd/platforms"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TarLayer is a layer of profile erofs-tar, which holds the tar that it was made from.
type TarLayer struct {
	Blob   ocispec.Descriptor `json:"blob"`
	DiffID digest.Digest      `json:"diffID"` // of the tar, the source layer's
	Size   int64              `json:"size"`   // of the tar, in bytes
}

// TarLayers lists the layers of the variant of profile erofs-tar in src, bottom first. want
// chooses among several, and may be nil. Where src has the manifest that it was made from,
// the DiffIDs are compared with those of its config.
func TarLayers(ctx context.Context, src Source, want *ocispec.Platform) ([]TarLayer, error) {
	g, err := readImage(ctx, src)
	if err != nil {
		return nil, err
	}
	m, err := g.tarVariant(ctx, src, want)
	if err != nil {
		return nil, err
	}
	var layers []TarLayer
	for _, d := range m.Layers {
		size, err := strconv.ParseInt(d.Annotations[erofs.AnnotationTarSize], 10, 64)
		diffID := digest.Digest(d.Annotations[erofs.AnnotationTarDigest])
		if err != nil || size < 0 || diffID.Validate() != nil {
			return nil, refused(d.Digest, "its annotations %s and %s say of no tar where it is", erofs.AnnotationTarSize, erofs.AnnotationTarDigest)
		}
		layers = append(layers, TarLayer{d, diffID, size})
	}
	return layers, g.checkDiffIDs(ctx, src, m, layers)
}

// tarVariant finds the one variant of profile erofs-tar that is wanted.
func (g *graph) tarVariant(ctx context.Context, src Source, want *ocispec.Platform) (found *manifest, err error) {
	var offered []ocispec.Platform
	for _, m := range g.all() {
		if m.Annotations[AnnotationProfile] != string(erofs.ProfileTar) {
			continue
		}
		if err := m.readConfig(ctx, src); err != nil {
			return nil, err
		}
		p, err := m.platform()
		if err != nil {
			return nil, err
		}
		p.OSFeatures = nil
		if want == nil || platforms.OnlyStrict(*want).Match(p) {
			offered, found = append(offered, p), m
		}
	}
	switch len(offered) {
	case 0:
		return nil, refused(src.Name(), "it has no variant of profile %s that was asked for; other profiles do not keep the tar", erofs.ProfileTar)
	case 1:
		return found, nil
	}
	return nil, refused(src.Name(), "it has variants for %s; name one with --platform", format(offered))
}

// checkDiffIDs wants what the variant says of its tars to be what its original says.
func (g *graph) checkDiffIDs(ctx context.Context, src Source, m *manifest, layers []TarLayer) error {
	source := g.find(digest.Digest(m.Annotations[AnnotationSource]))
	if source == nil {
		return nil
	}
	if err := source.readConfig(ctx, src); err != nil {
		return err
	}
	ids, err := source.diffIDs()
	if err != nil {
		return err
	}
	if len(ids) != len(layers) {
		return refused(m.desc.Digest, "it has %d layers, and the image it was made from %d", len(layers), len(ids))
	}
	for i, l := range layers {
		if l.DiffID != ids[i] {
			return refused(l.Blob.Digest, "it says that its tar is %s, and the image it was made from says %s", l.DiffID, ids[i])
		}
	}
	return nil
}

// tarOffset is where the tar begins in a blob of profile erofs-tar.
const tarOffset = 4096

// Extract writes the layer's tar to w. Where it gives no error, all of the blob was what
// its digest says and what was written what DiffID says; else w has rubbish.
func (l TarLayer) Extract(ctx context.Context, src Source, w io.Writer) error {
	blob, err := fetch(ctx, src, l.Blob)
	if err != nil {
		return err
	}
	defer blob.Close()
	head := make([]byte, tarOffset)
	if _, err := io.ReadFull(blob, head); err != nil {
		return fmt.Errorf("read %s: %w", l.Blob.Digest, err)
	}
	if size, ok := erofs.TarSizeOf(head); !ok || size != l.Size {
		return refused(l.Blob.Digest, "it is no EROFS image around a tar of %d bytes", l.Size)
	}
	sum := l.DiffID.Verifier()
	switch n, err := io.CopyN(io.MultiWriter(w, sum), blob, l.Size); {
	case err == io.EOF:
		return refused(l.Blob.Digest, "it ends %d bytes before its tar does", l.Size-n)
	case err != nil:
		return fmt.Errorf("extract the tar of %s, after %d bytes: %w", l.Blob.Digest, n, err)
	}
	if err := blob.drain(); err != nil {
		return err
	}
	if !sum.Verified() {
		return refused(l.Blob.Digest, "its tar is not %s, as it says", l.DiffID)
	}
	return nil
}
