package lint

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/inspect"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// image is a manifest with EROFS layers, and what the rules want to know of it.
type image struct {
	convert.Manifest
	index  *ocispec.Index     // that names it; nil: none, or one within another
	all    []convert.Manifest // of the index
	config config
	layers []*layer
	legacy bool // all EROFS layers are of containerd's dialect
	deep   bool
}

// config is what the draft says of an image's.
type config struct {
	OSFeatures []string `json:"os.features"`
	RootFS     *struct {
		Type    string          `json:"type"`
		DiffIDs []digest.Digest `json:"diff_ids"`
	} `json:"rootfs"`
}

// layer is one of an image. What was not, or could not be, read of it is nil.
type layer struct {
	ocispec.Descriptor
	number  int           // from 0
	diffID  digest.Digest // the config's
	below   bool          // there is an overlay-lower below it
	damaged error         // the blob is not what its digest says
	unread  error         // what it holds is of a kind that is not read here
	problem error         // what it holds is no image that can be read
	super   *inspect.FileSystem
	tags    []string // of its devices
	files   *files
	chunks  *chunkIndex // embedded, or of a layer that is one itself
	hidden  int64       // where an index lies that no annotation names; 0: nowhere seen
	verity  verity
	holds   digest.Digest // what it holds, decompressed; empty: unknown
}

func (l *layer) role() string { return l.Annotations[erofs.AnnotationRole] }
func (l *layer) isZstd() bool { return strings.HasSuffix(l.MediaType, "+zstd") }
func (l *layer) isLegacy() bool {
	return l.MediaType == erofs.MediaTypeLegacy || l.MediaType == erofs.MediaTypeLegacyZstd
}

// isLower reports whether it is mounted as a layer of a stack.
func (l *layer) isLower() bool {
	return l.isEROFS() && (l.role() == "" || l.role() == erofs.RoleOverlayLower)
}

// read reads what the rules want to know.
func (im *image) read(ctx context.Context, src convert.Source, temp string) error {
	if _, err := convert.FetchDocument(ctx, src, im.Config, &im.config); err != nil {
		return err
	}
	for i, d := range im.Layers {
		l := &layer{Descriptor: d, number: i}
		if i < len(im.DiffIDs) {
			l.diffID = im.DiffIDs[i]
		}
		im.layers = append(im.layers, l)
	}
	im.legacy = slices.ContainsFunc(im.layers, (*layer).isLegacy) &&
		!slices.ContainsFunc(im.layers, func(l *layer) bool { return l.isEROFS() && !l.isLegacy() })
	below := false
	for i, l := range im.layers {
		l.below = below
		below = below || l.role() == erofs.RoleOverlayLower || im.legacy && l.isEROFS()
		r := &reading{ctx: ctx, src: &watched{Source: src}, temp: temp, deep: im.deep, l: l}
		if l.isIndex() && i > 0 {
			r.of = im.layers[i-1]
		}
		if err := errors.Join(r.read(), r.close()); err != nil {
			return err
		}
	}
	return nil
}

// watched is a source that remembers what went wrong with it, which is no fault of what it
// has.
type watched struct {
	convert.Source
	err error // the first
}

type rangeFetcher interface {
	FetchRange(ctx context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error)
}

func (w *watched) note(err error) error {
	if err != nil && err != io.EOF && w.err == nil {
		w.err = err
	}
	return err
}

func (w *watched) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	rc, err := w.Source.Fetch(ctx, desc)
	return w.watch(rc, err)
}

func (w *watched) FetchRange(ctx context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	f, ok := w.Source.(rangeFetcher)
	if !ok {
		return w.watch(nil, &convert.RefusedError{What: w.Name(), Why: "cannot be read at random; copy the image into a registry or an OCI layout"})
	}
	rc, err := f.FetchRange(ctx, desc, off, n)
	return w.watch(rc, err)
}

func (w *watched) watch(rc io.ReadCloser, err error) (io.ReadCloser, error) {
	if w.note(err) != nil {
		return nil, err
	}
	return watchedReader{rc, w}, nil
}

type watchedReader struct {
	io.ReadCloser
	w *watched
}

func (r watchedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	return n, r.w.note(err)
}
