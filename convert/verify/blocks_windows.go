package verify

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/convert/tree"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
)

// unpacks are the profiles whose variants are unpacked here.
func unpacks(p erofs.Profile) bool { return p == convert.ProfileBlockCIM }

// compare has containerd's differ make block CIMs of the original, has the variant's placed as
// on a node, and compares the files. What joins layers is a node's to make, and not looked at.
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
			v.Differences = append(v.Differences, tree.Difference{Path: fmt.Sprintf("layer %d", i+1), Attr: "digest", Got: got[i].String(), Want: want[i].String()})
		}
	}
	return nil
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
