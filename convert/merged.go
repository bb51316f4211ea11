package convert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
)

// ProfileMergedCIM is the profile of the CIM that joins those of a Windows image's layers.
const ProfileMergedCIM erofs.Profile = "blockcim-merged"

// BlockCIM reports whether the job makes a block CIM, which takes Windows.
func (j LayerJob) BlockCIM() bool {
	return j.Profile == ProfileBlockCIM || j.Profile == ProfileMergedCIM
}

// mergeTask is of what joins the layers up to that of top. Its key names all of them, because
// each layer's names the one below.
func mergeTask(top task) task {
	top.Profile, top.Below = ProfileMergedCIM, top.Key()
	return top
}

// merged gives what joins an image's layers, of which top is the topmost.
func (w *cimChain) merged(ctx context.Context, top task, layers []*CIMLayer) (*CIMLayer, error) {
	l, err := w.obtain(ctx, mergeTask(top), func(ctx context.Context, t task) (*CIMLayer, error) { return w.merge(ctx, t, layers) })
	if err != nil {
		return nil, fmt.Errorf("merging up to layer %s: %w", top.desc.Digest, err)
	}
	return l, nil
}

// merge joins layers, the base first, and pushes and enters what comes of it.
func (w *cimChain) merge(ctx context.Context, t task, layers []*CIMLayer) (*CIMLayer, error) {
	began := time.Now()
	if _, err := cimfs.Library(); err != nil {
		return nil, notHere(err)
	}
	dir, err := newCIMDir(cmp.Or(w.opts.TempDir, os.TempDir()))
	if err != nil {
		return nil, err
	}
	defer w.drop(ctx, dir)
	blocks := make([]*cimfs.Block, len(layers))
	for i, l := range layers {
		if blocks[i], err = w.block(ctx, l, filepath.Join(dir.path, strconv.Itoa(i))); err != nil {
			return nil, err
		}
	}
	end := w.quiet(ctx, waitBound+sealBound, "block CIMs are merged")
	b, err := cimfs.Merge(ctx, dir.path, blocks)
	end()
	if err != nil {
		return nil, err
	}
	l := &CIMLayer{Block: b}
	if l.Blob, err = w.pushBlock(ctx, t, cimfs.MediaTypeMergedZstd, b); err != nil {
		return nil, err
	}
	if err := w.enter(ctx, t, l); err != nil {
		return nil, err
	}
	w.event(Event{Layer: t.desc.Digest, Phase: "converted", Took: time.Since(began), Result: &l.Blob})
	return l, nil
}

// block has a layer's block in a file: the one that it was written to, if that is still there, or
// one in dir, out of the target.
func (w *cimChain) block(ctx context.Context, l *CIMLayer, dir string) (*cimfs.Block, error) {
	if _, err := os.Stat(l.Path); err == nil {
		return l.Block, nil
	}
	b := *l.Block
	b.Path = filepath.Join(dir, cimfs.LayerFile)
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		err = ReadTar(ctx, w.dst, l.Blob, func(r io.Reader) error {
			return copyBlock(w.metered(r, Event{Layer: l.Blob.Digest, Phase: "resolve"}), &b)
		})
	}
	if err != nil {
		return nil, fmt.Errorf("block CIM %s: %w", l.Blob.Digest, err)
	}
	return &b, nil
}

// copyBlock makes the file of a block of which the rest is known.
func copyBlock(r io.Reader, b *cimfs.Block) (err error) {
	f, err := os.OpenFile(b.Path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := digest.Canonical.Digester()
	if _, err := io.Copy(io.MultiWriter(f, sum.Hash()), io.LimitReader(r, b.Size+1)); err != nil {
		return err
	}
	if got := sum.Digest(); got != b.Digest {
		return refused(b.Digest, "the block's digest is %s", got)
	}
	return nil
}

// merge adds what joins the layers. No config has it: those who do not know it have the layers
// that they would have without it.
func (v *variantContent) merge(merged *CIMLayer) {
	top := v.layers[len(v.layers)-1].Annotations
	top[cimfs.AnnotationMerged], top[cimfs.AnnotationMergedRootHash] = merged.Blob.Digest.String(), merged.RootHash
	v.layers = append(v.layers, merged.descriptor())
}
