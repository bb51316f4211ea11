package convert

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// LayerTask is a layer to be made elsewhere: the job, and the size in bytes of the
// source blob, which is not part of the job's identity.
type LayerTask struct {
	LayerJob
	Size int64
}

// Elsewhere has layers converted by others. It gets those that the ledger does not
// hold, all at once, and comes back with what no ledger can hold: what a layer
// needs that cannot be made without a context, by its job's key. A task that it
// gives no needs of is looked up in the ledger again and then converted here. Its
// error ends the conversion as it is.
type Elsewhere func(ctx context.Context, missing []LayerTask) (needs map[digest.Digest]erofs.Needs, err error)

// LayerResult is what [Layer] made: one of these is set.
type LayerResult struct {
	Layer *erofs.Layer `json:"layer,omitempty"`
	// Needs is of a layer that cannot be made without a context.
	Needs *erofs.Needs `json:"needs,omitempty"`
	CIM   *CIMLayer    `json:"cim,omitempty"` // of Windows
	// Verified is of a Layer that was compared with its tar.
	Verified *Verified `json:"verified,omitempty"`
}

// Layer converts one layer from src into the ledger, where [Image] finds it. It
// does nothing if the ledger holds it already. Of opts count Ledger, which must
// have a key, Limits, Verify, TempDir, Log and Progress.
//
// A job of another writer's version than this one's is an errdefs.ErrUnavailable:
// another worker may have that version.
func Layer(ctx context.Context, src Source, t LayerTask, opts Options) (*LayerResult, error) {
	writer := erofs.WriterVersion
	if t.BlockCIM() {
		writer = cimfs.WriterVersion
	}
	if t.Writer != writer {
		return nil, fmt.Errorf("layer %s is to be written by version %s, and this is %s: %w", t.Source, t.Writer, writer, errdefs.ErrUnavailable)
	}
	dst, err := opts.Ledger.Open(ledgerTag(t.Key()))
	if err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	c := &conversion{src: src, dst: dst, opts: opts, log: opts.Log, ledgerOnly: true}
	if t.BlockCIM() {
		return c.cimLayer(ctx, t)
	}
	l, err := c.run(ctx, task{LayerJob: t.LayerJob, desc: ocispec.Descriptor{MediaType: t.MediaType, Digest: t.Source, Size: t.Size}}, false)
	if err != nil {
		return nil, err
	}
	return &LayerResult{Layer: l.Layer, Needs: l.pending, Verified: l.proven}, nil
}

// askElsewhere gives the tasks that are left for this process.
func (c *conversion) askElsewhere(ctx context.Context, tasks []task) (left []task, err error) {
	if c.opts.Elsewhere == nil || c.opts.Ledger == nil || c.opts.Ledger.Key == nil {
		return tasks, nil // without a key this pool enters nothing
	}
	missing, err := c.lookUp(ctx, tasks)
	if err != nil || len(missing) == 0 {
		return nil, err
	}
	var ask []LayerTask
	for _, t := range missing {
		ask = append(ask, LayerTask{t.LayerJob, t.desc.Size})
	}
	needs, err := c.opts.Elsewhere(ctx, ask)
	if err != nil {
		return nil, err
	}
	for _, t := range missing {
		if n, ok := needs[t.Key()]; ok {
			c.found(t, &layer{pending: &n})
			continue
		}
		left = append(left, t)
	}
	return left, nil
}

// lookUp takes what the ledger holds and gives the other tasks, in their order.
func (c *conversion) lookUp(ctx context.Context, tasks []task) (missing []task, err error) {
	found := make([]*layer, len(tasks))
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(c.opts.Parallel)
	for i, t := range tasks {
		eg.Go(func() (err error) {
			found[i], err = c.reuse(ctx, t)
			if err != nil {
				return fmt.Errorf("layer %s: %w", t.desc.Digest, err)
			}
			return nil
		})
	}
	if err := eg.Wait(); err != nil {
		return nil, err
	}
	for i, t := range tasks {
		if found[i] == nil {
			missing = append(missing, t)
			continue
		}
		c.found(t, found[i])
	}
	return missing, nil
}
