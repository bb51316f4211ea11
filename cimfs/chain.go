package cimfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sync/semaphore"
)

// maxWriters bounds the CIMs that a worker writes at a time: with 15 to 20 on a machine, Windows
// Server 2022 has stopped with a bug check (hcsshim issue 2625).
const maxWriters = 4

var writers = semaphore.NewWeighted(maxWriters)

// Chain makes the block CIMs of an image's layers, from the base upwards. What hcsshim needs of
// the layers below is their registry alone; a chain knows whose that is, so that nobody names
// parents in a wrong order. It is not safe for concurrent use.
//
// A Chain writes where there is a [Library]: elsewhere its methods return that error, and read
// nothing.
type Chain struct {
	dir   string
	depth int    // layers so far, those made elsewhere too
	hives string // a directory with those of the topmost layer; "" below the base
}

// NewChain begins an image, in a directory that is the caller's to make and to remove.
//
// Each CIM is written by a process of its own, see [RunWriter]: where hcsshim v0.15.0 fails
// its file stays open, and cannot be removed, until the process ends; and a fault of
// Microsoft's library ends no worker.
func NewChain(dir string) *Chain { return &Chain{dir: dir} }

// Continue begins above depth layers that were made elsewhere, of which hives are what
// WriteHives has written.
func Continue(dir string, depth int, hives io.Reader) (*Chain, error) {
	c := &Chain{dir: dir, depth: depth, hives: filepath.Join(dir, "below")}
	if err := readHives(hives, c.hives); err != nil {
		return nil, fmt.Errorf("hives of the layers below: %w", err)
	}
	return c, nil
}

// Depth is how many layers there are.
func (c *Chain) Depth() int { return c.depth }

// WriteHives writes what Continue reads: the registry's hives as the layers so far have made
// them, a tar whose bytes follow from theirs.
func (c *Chain) WriteHives(w io.Writer) error { return writeHives(w, c.hives) }

// Import makes the CIM of the next layer, whose uncompressed tar r reads to its end. A layer
// that cannot become one is an errdefs.ErrInvalidArgument that says why, as [Plan] does. On
// any error nothing is left of it, and the chain is where it was.
func (c *Chain) Import(ctx context.Context, r io.Reader) (_ *Block, err error) {
	dir, err := begin(ctx, c.dir, strconv.Itoa(c.depth))
	if err != nil {
		return nil, err
	}
	defer func() { err = end(dir, err) }()
	b := &Block{Path: filepath.Join(dir, LayerFile), Name: LayerName}
	if b.Layer, err = c.written(ctx, b, r); err != nil {
		return nil, err
	}
	if err := b.measure(); err != nil {
		return nil, err
	}
	hives := filepath.Join(dir, "state")
	if err := c.inherit(dir, hives); err != nil {
		return nil, err
	}
	c.depth, c.hives = c.depth+1, hives
	return b, nil
}

// written has b written of a tar, and gives what a plan says of it.
func (c *Chain) written(ctx context.Context, b *Block, tar io.Reader) (*Layer, error) {
	var (
		layer   *Layer
		planErr error
		planned = make(chan struct{})
	)
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	planner, feed := io.Pipe()
	go func() {
		defer close(planned)
		if layer, planErr = Plan(ctx, planner, c.depth == 0, func(Call) error { return nil }); planErr != nil {
			stop(planErr) // hcsshim may not mind what the plan ends at
		}
		planner.CloseWithError(planErr)
	}()
	tee := io.TeeReader(tar, feed)
	err := run(running, b, order{Hives: c.hives}, tee)
	// hcsshim stops where the tar ends, or where it does not go on: the plan says why.
	_, readErr := io.Copy(io.Discard, tee)
	feed.CloseWithError(readErr)
	<-planned
	switch {
	case planErr != nil:
		return nil, planErr
	case layer.Err() != nil:
		return nil, layer.Err()
	}
	return layer, cmp.Or(err, readErr)
}

// begin waits until another CIM may be written, and makes its directory. end follows.
func begin(ctx context.Context, parent, name string) (dir string, err error) {
	if _, err := Library(); err != nil {
		return "", err // before anything is fetched
	}
	if err := writers.Acquire(ctx, 1); err != nil {
		return "", context.Cause(ctx)
	}
	dir = filepath.Join(parent, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		writers.Release(1)
		return "", err
	}
	return dir, nil
}

// end removes a CIM that did not become one: hcsshim seals what it has even so.
func end(dir string, err error) error {
	writers.Release(1)
	if err != nil {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}
