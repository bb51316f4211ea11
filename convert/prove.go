package convert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/lithify/lithify/convert/frames"
	"github.com/lithify/lithify/convert/proof"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
)

// Verify says how much of what is made is compared with its source before it is published.
type Verify string

// An unknown one counts as VerifyFull, which is the default.
const (
	// VerifyFull reads each tar a second time as it goes by to the writer, with archive/tar,
	// reads the finished image with go-erofs, and compares them: every attribute and byte.
	// It includes VerifyStack. What the ledger has unverified is converted again.
	VerifyFull Verify = "full"
	// VerifyStack compares what a container sees in an image's layers with what applying
	// one after the other gives, by their metadata.
	VerifyStack Verify = "stack"
	VerifyNone  Verify = "none"
)

// full reports whether layers are to be compared with their tars.
func (v Verify) full() bool { return v != VerifyStack && v != VerifyNone }

// Verified says who has compared a layer with its tar, and found no difference.
type Verified struct {
	By      string `json:"by"`      // proof.Version
	Entries int    `json:"entries"` // of the tar
	Bytes   int64  `json:"bytes"`   // of contents
}

// witness reads the tar of a layer as it goes by to the writer. A nil one sees nothing.
type witness struct {
	tar   *proof.Tar
	ended func(error) error
	// Of an image that leaves its files in the tar: that, and the blob that it is from.
	kept   *Scratch
	source digest.Digest
}

// witnessed gives what the writer is to read in the place of r. The caller closes the witness.
func (c *conversion) witnessed(t task, r io.Reader) (_ *witness, _ io.Reader, err error) {
	if !c.opts.Verify.full() {
		return nil, r, nil
	}
	w := &witness{tar: proof.NewTar(t.Bottom), source: t.Source}
	if t.Profile == erofs.ProfileIndex {
		if w.kept, err = TempFile(c.opts.TempDir); err != nil {
			return nil, nil, err
		}
		r = io.TeeReader(r, w.kept)
	}
	r, w.ended = w.tar.Tee(r)
	return w, r, nil
}

func (w *witness) close() error {
	if w == nil || w.kept == nil {
		return nil
	}
	return w.kept.Close()
}

// end ends the reading once the writer has ended, with err perhaps, which comes first.
func (w *witness) end(err error) error {
	if w == nil {
		return err
	}
	read := w.ended(err)
	if err == nil && read != nil {
		err = &RefusedError{What: "layer", Why: fmt.Sprintf("cannot be verified: %v; --verify=none converts it all the same", read)}
	}
	return err
}

// compare compares the blob in f with the tar.
func (w *witness) compare(ctx context.Context, f *Scratch, made *erofs.Layer, lower *erofs.Context, told func()) (_ *Verified, err error) {
	if w == nil {
		return nil, nil
	}
	image := io.ReaderAt(f)
	switch made.Profile {
	case erofs.ProfileIndex:
		tags, err := erofs.DeviceTags(f)
		if err == nil {
			image, _, err = erofs.Join(f, w.kept)
		}
		if err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
		if want := erofs.TagOf(w.source); tags[0] != want {
			return nil, fmt.Errorf("verify: the image's device is %q, and its files are in %s", tags[0], want)
		}
	case erofs.ProfileZstd:
		r, err := frames.Open(f, made.Size)
		if err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
		defer func() { err = errors.Join(err, r.Close()) }()
		image = r
	}
	if err := w.tar.Compare(ctx, image, lower, func(int64) { told() }); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	n := w.tar.Needs()
	if !slices.Equal(n.Dirs, made.Needs.Dirs) || !slices.Equal(n.Links, made.Needs.Links) || n.RootNames != made.Needs.RootNames {
		return nil, fmt.Errorf("verify: the writer says that the layer leaves %d directories and %d links to those below, and its tar leaves %d and %d",
			len(made.Needs.Dirs), len(made.Needs.Links), len(n.Dirs), len(n.Links))
	}
	return &Verified{By: proof.Version, Entries: w.tar.Entries, Bytes: w.tar.Bytes}, nil
}

// proveStack compares what a container sees in layers, topmost first, with what they make if
// one is applied after the other. It gives how many files that are, or 0 where it is not asked for.
func (c *conversion) proveStack(ctx context.Context, views stack, jobs []LayerJob) (int, error) {
	if c.opts.Verify == VerifyNone {
		return 0, nil
	}
	var layers []proof.Layer
	for i, v := range slices.Backward(views) {
		if _, err := v.lstat(ctx, "."); err != nil { // which loads the metadata
			return 0, err
		}
		layers = append(layers, proof.Layer{FS: v.meta, Needs: v.layer.Needs, Context: jobs[len(views)-1-i].Context})
	}
	n, err := proof.Stack(ctx, layers)
	if err != nil {
		return 0, fmt.Errorf("verify the layers on each other: %w", err)
	}
	return n, nil
}
