package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strconv"
	"syscall"

	"github.com/lithify/lithify/convert/frames"
	"github.com/lithify/lithify/convert/proof"
	"github.com/lithify/lithify/erofs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// fetched is a layer of the variant that is here.
type fetched struct {
	desc  ocispec.Descriptor
	blob  io.ReaderAt
	image io.ReaderAt // in it
}

// claims compares what a layer's annotations say that proves it with what it is: the root of
// its dm-verity tree, and all of that, the fs-verity digest of the blob, and the checksums in
// its chunk index.
func (c *comparison) claims(ctx context.Context, where string, l *fetched) error {
	for _, check := range []func(context.Context, *fetched) *claim{verityClaim, fsVerityClaim, chunkClaim} {
		bad := check(ctx, l)
		if err := ctx.Err(); err != nil {
			return err
		}
		if bad == nil {
			continue
		}
		if errors.As(bad.err, new(syscall.Errno)) {
			return fmt.Errorf("read %s back: %w", where, bad.err)
		}
		if bad.err != nil {
			bad.got = bad.err.Error()
		}
		c.differ(where, bad.attr, bad.got, bad.want)
	}
	return nil
}

// claim is one that does not hold. err, if not nil, is what the layer is instead.
type claim struct {
	attr, got, want string
	err             error
}

func verityClaim(ctx context.Context, l *fetched) *claim {
	offset, root, size := l.desc.Annotations[erofs.AnnotationVerityHashOffset], l.desc.Annotations[erofs.AnnotationVerityRootDigest], l.desc.Annotations[erofs.AnnotationVerityBlockSize]
	if offset == "" && root == "" {
		return nil
	}
	bad := claim{attr: "dm-verity root digest", want: root}
	off, err := strconv.ParseInt(offset, 10, 64)
	if err != nil || off < 0 {
		return &claim{attr: "dm-verity hash offset", got: strconv.Quote(offset), want: "a number of bytes"}
	}
	tree, err := proof.ReadVerity(l.image, off)
	if err != nil {
		bad.err = err
		return &bad
	}
	if is := strconv.FormatInt(tree.BlockSize, 10); size != "" && size != is {
		return &claim{attr: "dm-verity block size", got: is, want: size}
	}
	if covers := tree.DataBlocks * tree.BlockSize; covers != off {
		return &claim{attr: "dm-verity tree", got: fmt.Sprintf("of %d bytes", covers), want: fmt.Sprintf("of all %d before it", off)}
	}
	got, err := tree.Root(ctx, l.image)
	if bad.err, bad.got = err, got.String(); err != nil || got.String() != root {
		return &bad
	}
	return nil
}

func fsVerityClaim(ctx context.Context, l *fetched) *claim {
	want := l.desc.Annotations[erofs.AnnotationFSVerity]
	if want == "" {
		return nil
	}
	got, err := proof.FSVerity(ctx, l.blob, l.desc.Size)
	if err != nil || got.String() != want {
		return &claim{attr: "fs-verity digest", got: got.String(), want: want, err: err}
	}
	return nil
}

func chunkClaim(ctx context.Context, l *fetched) *claim {
	x, ok, err := erofs.ChunkIndexOf(l.desc)
	if err == nil && !ok {
		return nil
	}
	var chunks []erofs.Chunk
	if err == nil {
		chunks, err = erofs.ReadChunkIndex(l.blob, l.desc.Size, x)
	}
	if err != nil {
		return &claim{attr: "chunks", want: "the layer's", err: err}
	}
	var buf []byte
	for i, c := range chunks {
		if ctx.Err() != nil {
			return nil
		}
		if int64(cap(buf)) < c.Size {
			buf = make([]byte, c.Size)
		}
		p := buf[:c.Size]
		attr := fmt.Sprintf("chunk %d", i)
		if _, err := io.ReadFull(io.NewSectionReader(l.blob, c.Offset, c.Size), p); err != nil {
			return &claim{attr: attr, want: "readable", err: err}
		}
		if sum := sha256.Sum256(p); sum != c.SHA256 {
			return &claim{attr: attr, got: fmt.Sprintf("%x", sum), want: fmt.Sprintf("%x", c.SHA256)}
		}
		if held, err := frames.One(p); err != nil || held != c.ImageSize {
			return &claim{attr: attr, got: fmt.Sprintf("of %d bytes", held), want: fmt.Sprintf("one frame of %d bytes", c.ImageSize), err: err}
		}
	}
	return nil
}
