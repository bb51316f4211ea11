package convert

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/platforms"
	"github.com/lithify/lithify/cimfs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// WindowsImage is what becomes of the layers of an image for Windows.
type WindowsImage struct {
	Platform string         `json:"platform"`
	Manifest digest.Digest  `json:"manifest"`
	Layers   []WindowsLayer `json:"layers"`
}

// WindowsLayer is one of them.
type WindowsLayer struct {
	Blob digest.Digest `json:"blob"` // as src has it
	*cimfs.Layer
}

// Err is why the image cannot become block CIMs; nil if it can.
func (w *WindowsImage) Err() error {
	for _, l := range w.Layers {
		if err := l.Err(); err != nil {
			return fmt.Errorf("%s: layer %s: %w", w.Platform, l.Blob, err)
		}
	}
	return nil
}

// PlanCIM reads the layers of every Windows image of src, and has emit called with each call
// that makes block CIMs of them: see [cimfs.Plan]. It writes nothing. Without such an image it
// is a [RefusedError].
func PlanCIM(ctx context.Context, src Source, emit func(blob digest.Digest, c cimfs.Call) error) ([]*WindowsImage, error) {
	g, err := readImage(ctx, src)
	if err != nil {
		return nil, err
	}
	var found []*WindowsImage
	for _, m := range g.all() {
		if !m.isImage() || m.source() != "" {
			continue
		}
		if err := m.readConfig(ctx, src); err != nil {
			return nil, err
		}
		platform, err := m.platform()
		if err != nil {
			return nil, err
		}
		if platform.OS != "windows" {
			continue
		}
		w := &WindowsImage{Platform: platforms.FormatAll(platform), Manifest: m.desc.Digest}
		if err := w.plan(ctx, src, m, emit); err != nil {
			return nil, err
		}
		found = append(found, w)
	}
	if len(found) == 0 {
		return nil, refused(src.Name(), "has no image for Windows")
	}
	return found, nil
}

func (w *WindowsImage) plan(ctx context.Context, src Source, m *manifest, emit func(digest.Digest, cimfs.Call) error) error {
	why, err := m.checkLayers()
	if err == nil && why != "" {
		err = refused(m.desc.Digest, "%s", why)
	}
	if err != nil {
		return err
	}
	diffIDs, err := m.diffIDs()
	if err != nil {
		return err
	}
	for i, desc := range m.Layers {
		l, err := planLayer(ctx, src, desc, i == 0, func(c cimfs.Call) error { return emit(desc.Digest, c) })
		if err != nil {
			return fmt.Errorf("layer %s: %w", desc.Digest, err)
		}
		if l.DiffID != diffIDs[i] {
			return refused(desc.Digest, "the tar's digest is %s and the config says %s", l.DiffID, diffIDs[i])
		}
		w.Layers = append(w.Layers, WindowsLayer{desc.Digest, l})
	}
	return nil
}

func planLayer(ctx context.Context, src Source, desc ocispec.Descriptor, base bool, emit func(cimfs.Call) error) (l *cimfs.Layer, err error) {
	err = ReadTar(ctx, src, desc, func(tar io.Reader) (err error) {
		l, err = cimfs.Plan(ctx, tar, base, emit)
		return err
	})
	return l, err
}

// ReadTar has read called with a layer of src, decompressed, and afterwards compares all of the
// blob with its digest.
func ReadTar(ctx context.Context, src Source, desc ocispec.Descriptor, read func(io.Reader) error) error {
	blob, err := fetch(ctx, src, desc)
	if err != nil {
		return err
	}
	defer blob.Close()
	tar, err := decompress(blob)
	if err != nil {
		return err
	}
	defer tar.Close()
	if err := read(tar); err != nil {
		return err
	}
	return blob.drain()
}

// CopyTar writes the first n bytes of a layer of src to w, decompressed, or what there is of
// these, and compares all of the blob with its digest. The rest is not decompressed.
func CopyTar(ctx context.Context, src Source, desc ocispec.Descriptor, w io.Writer, n int64) error {
	return ReadTar(ctx, src, desc, func(r io.Reader) error {
		_, err := io.Copy(w, io.LimitReader(r, n))
		return err
	})
}
