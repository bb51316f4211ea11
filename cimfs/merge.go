package cimfs

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/containerd/errdefs"
)

// Merge makes the CIM that joins those of an image's layers, of which layers has all, the base
// first, whoever made them: what counts of each is the file at its Path. It is not the layers'
// content but names of it, and to mount it takes all of them, too. An image of one layer needs none.
//
// The block lies in a directory of its own in dir. On any error nothing is left of it. Merge
// writes on Windows only: elsewhere it is an errdefs.ErrNotImplemented.
func Merge(ctx context.Context, dir string, layers []*Block) (_ *Block, err error) {
	if len(layers) < 2 {
		return nil, fmt.Errorf("merging %d layers: it takes two or more: %w", len(layers), errdefs.ErrInvalidArgument)
	}
	if dir, err = begin(ctx, dir, "merged"); err != nil {
		return nil, err
	}
	defer func() { err = end(dir, err) }()
	b := &Block{Path: filepath.Join(dir, MergedFile), Name: MergedName}
	var o order
	for _, l := range slices.Backward(layers) {
		o.Sources = append(o.Sources, l.Path)
	}
	if err := run(ctx, b, o, nil); err != nil {
		return nil, err
	}
	return b, b.measure()
}
