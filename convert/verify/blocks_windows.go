package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/convert/tree"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// unpacks are the profiles whose variants are unpacked here.
func unpacks(p erofs.Profile) bool { return p == convert.ProfileBlockCIM }

// compare has containerd's differ make block CIMs of the original, has the variant's placed as
// on a node, and compares the files; and so with what joins the layers, if the variant brings it.
func (v *Variant) compare(ctx context.Context, s *stack.Stack, p convert.Pair, original, variant image) (err error) {
	if err := sameWriter(p); err != nil {
		return err
	}
	ctx, release, err := s.Lease(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	want, err := original.blocks(ctx, s)
	if err != nil {
		return err
	}
	got, err := variant.blocks(ctx, s)
	if err != nil {
		return err
	}
	if len(got) != len(want) {
		return &convert.RefusedError{What: p.Variant.Digest.String(), Why: fmt.Sprintf("has %d layers, and its original %d", len(got), len(want))}
	}
	v.Layers = len(want)
	for i := range want {
		if got[i] != want[i] {
			v.differ(fmt.Sprintf("layer %d", i+1), "digest", got[i].String(), want[i].String())
		}
	}
	return v.compareMerged(ctx, s, p.Layers, original, variant)
}

func (v *Variant) differ(path, attr, got, want string) {
	v.Differences = append(v.Differences, tree.Difference{Path: path, Attr: attr, Got: got, Want: want})
}

const mergedPath = "merged CIM"

// compareMerged compares what a node with blockcim-differ --merged takes in place of what its
// snapshotter makes: that which a layer names, whichever it is.
func (v *Variant) compareMerged(ctx context.Context, s *stack.Stack, layers []ocispec.Descriptor, original, variant image) error {
	for i, l := range layers {
		named := digest.Digest(l.Annotations[cimfs.AnnotationMerged])
		if named == "" {
			continue
		}
		behind := layers[min(v.Layers, len(layers)):]
		blob := slices.IndexFunc(behind, func(d ocispec.Descriptor) bool { return d.Digest == named })
		if i != v.Layers-1 || blob < 0 {
			v.differ(mergedPath, "place", fmt.Sprintf("layer %d names %s", i+1, named), "the topmost layer names one that follows it")
			continue
		}
		file, err := s.Merged(ctx, original.name())
		if err != nil {
			return fmt.Errorf("merging the original's layers: %w", err)
		}
		if file == "" {
			v.differ(mergedPath, "place", named.String(), "none: there is one layer")
			continue
		}
		if err := v.compareBlock(ctx, file, behind[blob], l.Annotations[cimfs.AnnotationMergedRootHash], variant); err != nil {
			return err
		}
	}
	return nil
}

// compareBlock compares a blob of the variant with a block, and its annotated root hash.
func (v *Variant) compareBlock(ctx context.Context, file string, blob ocispec.Descriptor, rootHash string, variant image) error {
	want, err := digestOf(file)
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	var got digest.Digest
	err = convert.ReadTar(ctx, variant.Source, blob, func(block io.Reader) (err error) {
		got, err = digest.FromReader(io.LimitReader(block, info.Size()+1))
		return err
	})
	if err != nil {
		return fmt.Errorf("%s %s: %w", mergedPath, blob.Digest, err)
	}
	if got != want {
		v.differ(mergedPath, "digest", got.String(), want.String())
	}
	hash, err := cimfs.RootHash(ctx, file)
	if err == nil && hash != rootHash {
		v.differ(mergedPath, "root hash", rootHash, hash)
	}
	return err
}

// sameWriter refuses what another writer has made: its bytes may differ, and mean the same.
func sameWriter(p convert.Pair) error {
	here, err := cimfs.Library()
	if err != nil {
		return err
	}
	for _, l := range p.Layers {
		if made := l.Annotations[cimfs.AnnotationWriter]; made != here.String() || p.Writer != cimfs.WriterVersion {
			return &convert.RefusedError{What: p.Variant.Digest.String(), Why: fmt.Sprintf("was made by %s with %s, and here is %s with %s: verify it where that is", p.Writer, made, cimfs.WriterVersion, here)}
		}
	}
	return nil
}

// blocks are the digests of the image's block CIMs, the base first.
func (i image) blocks(ctx context.Context, s *stack.Stack) (sums []digest.Digest, err error) {
	if err := s.Pull(ctx, i, i.name(), stack.BlockCIM); err != nil {
		return nil, err
	}
	files, err := s.Blocks(ctx, i.name())
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		sum, err := digestOf(file)
		if err != nil {
			return nil, err
		}
		sums = append(sums, sum)
	}
	return sums, nil
}

func digestOf(file string) (digest.Digest, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return digest.FromReader(f)
}
