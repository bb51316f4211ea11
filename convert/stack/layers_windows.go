package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/mount/manager"
	"github.com/containerd/containerd/v2/core/snapshots"
	diffs "github.com/containerd/containerd/v2/plugins/diff/windows"
	"github.com/containerd/containerd/v2/plugins/snapshots/windows"
	"github.com/containerd/errdefs"
	"github.com/google/uuid"
	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/cimfs/differ"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// snapshotters are that of block CIMs, if this Windows writes such.
func (s *Stack) snapshotters(ctx context.Context) (map[string]snapshots.Snapshotter, error) {
	s.missing[Overlayfs], s.missing[EROFS] = notOn(Overlayfs), notOn(EROFS)
	if _, err := cimfs.Library(); err != nil {
		s.missing[BlockCIM] = err
		s.log.WarnContext(ctx, "snapshotter left out", "snapshotter", BlockCIM, "error", err)
		return nil, nil
	}
	root := s.at(BlockCIM)
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	// The scratch is a container's, and none is made here: unformatted it takes no disk.
	sn, err := windows.NewBlockCIMSnapshotter(root, &windows.BlockCIMSnapshotterConfig{EnableLayerIntegrity: true, UnformattedScratch: true})
	if err != nil {
		return nil, fmt.Errorf("snapshotter %s: %w", BlockCIM, err)
	}
	return map[string]snapshots.Snapshotter{BlockCIM: sn}, nil
}

// layerTypes are media types of layers besides those that containerd knows.
var layerTypes = []string{cimfs.MediaTypeLayer, cimfs.MediaTypeLayerZstd}

// applier has containerd's own differ make block CIMs of tars.
func applier(_ string, cs content.Store) (diff.Applier, error) {
	made, err := diffs.NewBlockCimDiff(cs)
	return &blocks{&differ.Applier{Content: cs, Log: slog.New(slog.DiscardHandler)}, made}, err
}

// blocks is the differ of block CIMs, which places those that are there.
type blocks struct{ placed, made diff.Applier }

// Apply is of diff.Applier.
func (b *blocks) Apply(ctx context.Context, desc ocispec.Descriptor, mounts []mount.Mount, opts ...diff.ApplyOpt) (ocispec.Descriptor, error) {
	d, err := b.placed.Apply(ctx, desc, mounts, opts...)
	if !errdefs.IsNotImplemented(err) {
		return d, err
	}
	return b.made.Apply(ctx, desc, mounts, opts...)
}

func mountHandlers() []manager.Opt { return nil }

func (s *Stack) unmountAll() error { return nil } // nothing is mounted

// Blocks are the files of the block CIMs that Pull unpacked an image to for BlockCIM, the base
// first. They are there as long as the image is.
func (s *Stack) Blocks(ctx context.Context, name string) (files []string, err error) {
	// A layer above them is told where they are.
	list, err := s.above(ctx, name, snapshots.UnpackKeyPrefix+"-"+uuid.NewString(), mount.ParentLayerCimPathsFlag)
	if list == "" || err != nil {
		return nil, err
	}
	var cims []string // the immediate parent's first
	if err := json.Unmarshal([]byte(list), &cims); err != nil {
		return nil, fmt.Errorf("mount option %s%s: %w", mount.ParentLayerCimPathsFlag, list, err)
	}
	for _, cim := range slices.Backward(cims) {
		files = append(files, filepath.Dir(cim))
	}
	return files, nil
}

// Merged is the file of the block CIM that joins those of Blocks, which the snapshotter makes as
// for a container; "" for an image of one layer. It is there as long as the image is.
func (s *Stack) Merged(ctx context.Context, name string) (file string, err error) {
	cim, err := s.above(ctx, name, "container-"+uuid.NewString(), mount.MergedCIMPathFlag)
	if cim == "" || err != nil {
		return "", err
	}
	return filepath.Dir(cim), nil
}

// above is what the mount of a snapshot above an image has for an option; "" if it has none.
func (s *Stack) above(ctx context.Context, name, key, option string) (value string, err error) {
	if err := s.has(BlockCIM); err != nil {
		return "", err
	}
	ctx = within(ctx)
	chain, err := s.chain(ctx, name)
	if err != nil {
		return "", err
	}
	sn := s.db.Snapshotter(BlockCIM)
	mounts, err := sn.Prepare(ctx, key, chain)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, sn.Remove(context.WithoutCancel(ctx), key)) }()
	for _, o := range mounts[0].Options {
		if value, ok := strings.CutPrefix(o, option); ok {
			return value, nil
		}
	}
	return "", nil
}

// ours is what %TEMP% has, which is each user's own.
func ours(string) bool { return true }
