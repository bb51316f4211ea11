package lint

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/convert/proof"
	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
)

// verity is a layer's dm-verity tree.
type verity struct {
	noted   bool // by any of its annotations
	off     int64
	root    digest.Digest
	block   int64 // by the annotation, or the default
	tree    *proof.VerityTree
	unnamed bool  // there is a tree, and no annotation says so
	broken  error // the superblock is none
	found   digest.Digest
	differs error // the tree is not that of the data
}

// read finds the tree by the annotations, or behind the image.
func (v *verity) read(ctx context.Context, image io.ReaderAt, l *layer, deep bool) {
	offset, root, size := l.Annotations[erofs.AnnotationVerityHashOffset], l.Annotations[erofs.AnnotationVerityRootDigest], l.Annotations[erofs.AnnotationVerityBlockSize]
	v.noted = offset != "" || root != "" || size != ""
	if !v.noted {
		if end := l.super.Blocks * l.super.BlockSize; end > 0 {
			v.tree, _ = proof.ReadVerity(image, end)
			v.unnamed = v.tree != nil
		}
		return
	}
	v.root, v.block = digest.Digest(root), 4096
	if n, err := strconv.ParseInt(size, 10, 64); err == nil {
		v.block = n
	}
	var err error
	if v.off, err = strconv.ParseInt(offset, 10, 64); err != nil || v.off < 0 {
		return // annotation-form, or verity-annotations
	}
	if v.tree, err = proof.ReadVerity(image, v.off); err != nil {
		if errdefs.IsNotImplemented(err) {
			l.unread = err
		} else {
			v.broken = err
		}
		return
	}
	v.found, v.differs = v.tree.Top(image)
	if deep && v.differs == nil {
		v.found, v.differs = v.tree.Root(ctx, image)
	}
}

var verityRules = []Rule{
	{ID: "verity-annotations", Level: Must, Section: "8.1, 6", Text: "a layer with a dm-verity tree says where it begins and what its root digest is",
		check: eachLayer(func(l *layer, say func(string, ...any)) {
			if l.verity.unnamed {
				say("a dm-verity tree lies at %d, and no annotation says so", l.verity.tree.Offset)
			}
			for _, k := range []string{erofs.AnnotationVerityHashOffset, erofs.AnnotationVerityRootDigest} {
				if l.verity.noted && l.Annotations[k] == "" {
					say("it has annotations of a dm-verity tree, and no %s", k)
				}
			}
		})},
	{ID: "verity-offset", Level: Must, Section: "3.5", Text: "the tree begins at a multiple of its block size",
		check: eachLayer(func(l *layer, say func(string, ...any)) {
			if v := l.verity; v.noted && (v.block <= 0 || v.off%v.block != 0) {
				say("the tree begins at %d, and its blocks are of %d bytes", v.off, v.block)
			}
		})},
	{ID: "verity-superblock", Level: Must, Section: "3.5", Text: "the tree begins with dm-verity's superblock, which has the annotations' block size and covers all before it",
		check: eachLayer(func(l *layer, say func(string, ...any)) {
			v := l.verity
			switch {
			case v.broken != nil:
				say("at %d: %v", v.off, v.broken)
			case v.tree == nil || !v.noted:
			case v.tree.BlockSize != v.block:
				say("its superblock says blocks of %d bytes, and the annotation %d", v.tree.BlockSize, v.block)
			case v.tree.DataBlocks*v.tree.BlockSize != v.off:
				say("it covers %d bytes, and begins at %d", v.tree.DataBlocks*v.tree.BlockSize, v.off)
			}
		})},
	{ID: "verity-place", Level: Must, Section: "2.3", Text: "the tree begins where the EROFS image ends",
		check: eachLayer(func(l *layer, say func(string, ...any)) {
			if v := l.verity; v.tree != nil && l.super != nil && l.super.Blocks > 0 {
				if end := l.super.Blocks * l.super.BlockSize; end != v.tree.Offset {
					say("the tree begins at %d, and the image ends at %d", v.tree.Offset, end)
				}
			}
		})},
	{ID: "verity-root", Level: Must, Section: "2.3", Text: "the root digest is that of the tree, and the tree that of the data",
		check: eachLayer(func(l *layer, say func(string, ...any)) {
			v := l.verity
			switch {
			case v.differs != nil:
				say("%v", v.differs)
			case v.found != "" && v.root != "" && v.found != v.root:
				say("its root digest is %s, and the annotation says %s", v.found, v.root)
			}
		})},
}

var contentRules = []Rule{
	{ID: "image", Level: Must, Section: "7", Text: "what an EROFS layer holds is a complete EROFS image",
		check: eachLayer(func(l *layer, say func(string, ...any)) {
			if l.problem != nil {
				say("%v", l.problem)
			}
		})},
	{ID: "unread", Level: Note, Section: "7", Text: "lithify reads what a layer holds",
		check: eachLayer(func(l *layer, say func(string, ...any)) {
			if l.unread != nil {
				say("not looked at: %v", l.unread)
			}
		})},
	{ID: "whiteouts", Level: Must, Section: "3.6", Text: "no whiteout and no opaque directory where no overlay-lower lies below",
		check: ofFiles(func(l *layer, say func(string, ...any)) {
			if n := l.files.whiteouts; n.n > 0 && l.isLower() && !l.below {
				say("nothing below it is there to be hidden, and it hides %s", n)
			}
		})},
	{ID: "whiteout-form", Level: Must, Section: "3.6", Text: "a whiteout is a character device 0:0, and an opaque directory has trusted.overlay.opaque=y",
		check: ofFiles(func(l *layer, say func(string, ...any)) {
			if n := l.files.marks; n.n > 0 {
				say("other marks of overlayfs: %s", n)
			}
		})},
	{ID: "tar-whiteouts", Level: Must, Section: "3.6", Text: "no name begins with .wh.",
		check: ofFiles(func(l *layer, say func(string, ...any)) {
			if n := l.files.tarMarks; n.n > 0 {
				say("names of tar's whiteouts: %s", n)
			}
		})},
	{ID: "hard-links", Level: Must, Section: "3.7", Text: "all names of a file lie in its layer",
		check: ofFiles(func(l *layer, say func(string, ...any)) {
			var bad names
			for _, k := range l.files.links {
				if k.said != k.has {
					bad.add(fmt.Sprintf("%s: %d of %d", k.name, k.has, k.said))
				}
			}
			if bad.n > 0 {
				say("names that the layer has, of those that a file says it has: %s", bad)
			}
		})},
	{ID: "stable-uuid", Level: Should, Section: "8.3", Text: "the file system's UUID is made from what it holds",
		check: eachLayer(func(l *layer, say func(string, ...any)) {
			if l.super != nil && l.super.UUID[14] == '4' {
				say("its UUID %s is of version 4, a random one", l.super.UUID)
			}
		})},
	{ID: "entry-order", Level: Should, Section: "8.3", Text: "entries of directories are in order",
		check: ofFiles(func(l *layer, say func(string, ...any)) {
			if n := l.files.disordered; n.n > 0 {
				say("not in order: %s", n)
			}
		})},
}

// ofFiles is eachLayer, of layers of which the files could be read.
func ofFiles(check func(l *layer, say func(string, ...any))) func(*image, say) {
	return eachLayer(func(l *layer, say func(string, ...any)) {
		if l.files != nil {
			check(l, say)
		}
	})
}
