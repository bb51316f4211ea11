//go:build !windows

package verify

import (
	"context"
	"errors"
	"time"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/convert/tree"
	"github.com/lithify/lithify/erofs"
	"golang.org/x/sync/errgroup"
)

// unpacks are the profiles whose variants are unpacked here: those that a released containerd
// mounts.
func unpacks(p erofs.Profile) bool { return isEROFS(p) && p != erofs.ProfileIndex }

func (v *Variant) compare(ctx context.Context, s *stack.Stack, _ convert.Pair, original, variant image) (err error) {
	ctx, release, err := s.Lease(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	var got, want tree.Tree
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { want, err = original.unpacked(gctx, s, stack.Overlayfs); return err })
	g.Go(func() (err error) { got, err = variant.unpacked(gctx, s, stack.EROFS); return err })
	if err := g.Wait(); err != nil {
		return err
	}
	v.Files = len(want)
	v.Root = tree.Diff(root(got), root(want))
	plain(want, got, s.Opened())
	v.Differences = tree.Diff(got, want)
	return nil
}

// root is the root directory alone, without its times: unpacking sets them.
func root(t tree.Tree) tree.Tree {
	e := t["."]
	e.Mtime, e.Nlink = time.Time{}, 0
	return tree.Tree{".": e}
}

// plain takes from both trees what is not the image's: the root; how many links a file
// has, which overlayfs counts in the one layer that the file is from; and the time of a directory
// that unpacking the original has made or added to, because no tar gives one.
func plain(want, got tree.Tree, opened time.Time) {
	for _, t := range []tree.Tree{want, got} {
		delete(t, ".")
		for name, e := range t {
			e.Nlink = 0
			t[name] = e
		}
	}
	for name, w := range want {
		if g, ok := got[name]; ok && w.Type.IsDir() && !w.Mtime.Before(opened) {
			g.Mtime = w.Mtime
			got[name] = g
		}
	}
}

// unpacked is the tree of the image as it is mounted for a container.
func (i image) unpacked(ctx context.Context, s *stack.Stack, snapshotter string) (_ tree.Tree, err error) {
	if err := s.Pull(ctx, i, i.name(), snapshotter); err != nil {
		return nil, err
	}
	dir, unmount, err := s.Mount(ctx, i.name(), snapshotter)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unmount()) }()
	return tree.Read(ctx, dir)
}
