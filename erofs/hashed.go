package erofs

import (
	"fmt"

	"github.com/google/uuid"
	"github.com/lithify/lithify/erofs/verity"
	"github.com/opencontainers/go-digest"
)

// Verity is the dm-verity tree behind an image: its superblock and, in the blocks
// after it, the hashes, both in blocks of 4096 bytes (package verity).
type Verity struct {
	// HashOffset is where it begins, which is the size of the image without it.
	HashOffset int64         `json:"hashOffset"`
	RootDigest digest.Digest `json:"rootDigest"`
}

// hashedBlob passes pieces on and hashes them for a dm-verity tree as they go by.
type hashedBlob struct {
	blobWriter
	tree  *verity.Tree
	queue chan piece // nil in serial mode, and once hashing has ended
	done  chan struct{}
	ended bool
	err   error // valid once done is closed
}

func newHashedBlob(blob blobWriter, opts Options) *hashedBlob {
	w := &hashedBlob{blobWriter: blob, tree: verity.NewTree(opts.TempDir)}
	if opts.Serial {
		return w
	}
	w.queue, w.done = make(chan piece, inChunks), make(chan struct{})
	go func() {
		defer close(w.done)
		for pc := range w.queue {
			w.hash(pc)
			pc.c.release()
		}
	}()
	return w
}

func (w *hashedBlob) hash(pc piece) {
	if w.err == nil {
		_, w.err = w.tree.Write(pc.p)
	}
}

func (w *hashedBlob) put(pc piece) error {
	switch {
	case w.ended:
	case w.queue == nil:
		w.hash(pc)
	default:
		pc.c.retain()
		w.queue <- pc
	}
	return w.blobWriter.put(pc)
}

// end waits until all that was put is hashed. What is put from now on is the tree.
func (w *hashedBlob) end() error {
	if w.ended {
		return w.err
	}
	w.ended = true
	if w.queue != nil {
		close(w.queue)
		<-w.done
	}
	return w.err
}

func (w *hashedBlob) finish() error {
	w.end()
	return w.blobWriter.finish()
}

// verityID is the UUID in dm-verity's superblock, which must not be the file system's:
// they lie in one file.
func verityID(image uuid.UUID) uuid.UUID { return uuid.NewSHA1(image, []byte("dm-verity")) }

// appendTree writes the tree of the image that has been written. A new frame begins with it, so that those before are the same without it.
func (c *conversion) appendTree(w *hashedBlob) error {
	if err := c.out.flush(); err != nil {
		return err
	}
	if err := w.end(); err != nil {
		return err
	}
	if err := w.tree.Finish(c.head); err != nil {
		return err
	}
	c.layer.Verity = &Verity{HashOffset: c.out.pos, RootDigest: w.tree.Root()}
	if err := w.tree.Append(c.out, verityID(c.layer.UUID)); err != nil {
		return fmt.Errorf("write dm-verity tree: %w", err)
	}
	return nil
}
