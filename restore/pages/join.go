package pages

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/restore/archive"
)

// Source has packs: a registry, or a layout. convert.Source is one.
type Source interface {
	// FetchRange opens n bytes of a blob from off.
	FetchRange(ctx context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error)
}

// Moved says where pages came from.
type Moved struct {
	Fetched int64 // bytes that the source sent
	Local   int64 // bytes of memory that were here
	Zeros   int64 // bytes of memory that were nowhere
}

const (
	// bridged is what is fetched and thrown away rather than asked around.
	bridged = 128 << 10
	// fetchers is how many packs are read at once.
	fetchers = 4
)

// Join makes the files of pages in dir, where the rest of the checkpoint is. What one of the
// local directories has, earlier checkpoints on this machine that were joined or
// split themselves, is taken from there. Every chunk is compared with its sum. After an error
// none of the files is there. [archive.Validate] comes after it.
func (x *Index) Join(ctx context.Context, dir string, src Source, local ...string) (_ *Moved, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	j := joiner{src: src, packs: x.Packs, wanted: map[Sum]*wanted{}}
	defer func() {
		err = errors.Join(err, j.close())
		for _, f := range j.files {
			if err != nil {
				err = errors.Join(err, root.Remove(f.name))
			}
		}
	}()
	for _, f := range x.Files {
		if err := j.make(root, f); err != nil {
			return nil, err
		}
	}
	for _, dir := range local {
		if err := j.local(ctx, dir); err != nil {
			return nil, err
		}
	}
	if err := j.fetch(ctx); err != nil {
		return nil, err
	}
	return &j.moved, nil
}

type joiner struct {
	src    Source
	packs  []Pack
	files  []target
	wanted map[Sum]*wanted
	moved  Moved
}

// target is a file that is being made.
type target struct {
	*os.File
	name string
}

// wanted is a chunk, and where it goes.
type wanted struct {
	Chunk
	places []place
}

type place struct {
	file   *os.File
	offset int64
}

func (w *wanted) put(data []byte) error {
	if int64(len(data)) != w.Length || sha256.Sum256(data) != w.Sum {
		return errDamaged
	}
	for _, p := range w.places {
		if _, err := p.file.WriteAt(data, p.offset); err != nil {
			return err
		}
	}
	return nil
}

// make makes a file of holes and notes what goes into it.
func (j *joiner) make(root *os.Root, f File) error {
	out, err := root.OpenFile(f.Name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	j.files = append(j.files, target{out, f.Name})
	at := int64(0)
	for _, c := range f.Chunks {
		if c.Size == 0 {
			j.moved.Zeros += c.Length
		} else {
			w := j.wanted[c.Sum]
			if w == nil {
				w = &wanted{Chunk: c}
				j.wanted[c.Sum] = w
			}
			if w.Length != c.Length {
				return refused("one chunk has %d bytes and %d", w.Length, c.Length)
			}
			w.places = append(w.places, place{out, at})
		}
		at += c.Length
	}
	return out.Truncate(at)
}

func (j *joiner) close() (err error) {
	for _, f := range j.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// local takes what a directory has. One that has no index, or is damaged, has nothing.
func (j *joiner) local(ctx context.Context, dir string) error {
	x, err := Load(dir, archive.Limits{})
	if err != nil {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil
	}
	defer root.Close()
	buf := make([]byte, window)
	for _, f := range x.Files {
		in, err := root.Open(f.Name)
		if err != nil {
			continue
		}
		err = j.localFile(ctx, in, f.Chunks, buf)
		in.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (j *joiner) localFile(ctx context.Context, in *os.File, chunks []Chunk, buf []byte) error {
	at := int64(0)
	for _, c := range chunks {
		from := at
		at += c.Length
		w := j.wanted[c.Sum]
		if w == nil || c.Size == 0 {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if _, err := in.ReadAt(buf[:c.Length], from); err != nil {
			return nil // it is shorter than it was
		}
		err := w.put(buf[:c.Length])
		if errors.Is(err, errDamaged) {
			continue
		}
		if err != nil {
			return err
		}
		j.moved.Local += c.Length
		delete(j.wanted, c.Sum)
	}
	return nil
}

// fetch gets the rest, pack by pack.
func (j *joiner) fetch(ctx context.Context) error {
	perPack := make([][]*wanted, len(j.packs))
	for _, w := range j.wanted {
		perPack[w.Pack] = append(perPack[w.Pack], w)
	}
	fetched := make([]int64, len(j.packs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchers)
	for i, all := range perPack {
		if len(all) == 0 {
			continue
		}
		g.Go(func() (err error) {
			fetched[i], err = j.fromPack(ctx, j.packs[i], all)
			if err != nil {
				err = fmt.Errorf("pages of %s: %w", j.packs[i].Digest, err)
			}
			return err
		})
	}
	err := g.Wait()
	for _, n := range fetched {
		j.moved.Fetched += n
	}
	return err
}

// fromPack reads what is wanted of a pack, in ranges without large gaps.
func (j *joiner) fromPack(ctx context.Context, p Pack, all []*wanted) (fetched int64, err error) {
	slices.SortFunc(all, func(a, b *wanted) int { return cmp.Compare(a.Offset, b.Offset) })
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(window))
	if err != nil {
		return 0, err
	}
	defer d.Close()
	for len(all) > 0 {
		n, end := 1, all[0].Offset+all[0].Size
		for n < len(all) && all[n].Offset >= end && all[n].Offset-end <= bridged {
			end = all[n].Offset + all[n].Size
			n++
		}
		if err := j.fromRange(ctx, p, all[0].Offset, end, all[:n], d); err != nil {
			return fetched, err
		}
		fetched += end - all[0].Offset
		all = all[n:]
	}
	return fetched, nil
}

func (j *joiner) fromRange(ctx context.Context, p Pack, from, end int64, all []*wanted, d *zstd.Decoder) error {
	r, err := j.src.FetchRange(ctx, p.Descriptor(), from, end-from)
	if err != nil {
		return err
	}
	defer r.Close()
	packed, data := make([]byte, 0, 2*window), make([]byte, 0, window)
	for _, w := range all {
		if _, err := io.CopyN(io.Discard, r, w.Offset-from); err != nil {
			return unexpected(err)
		}
		packed = packed[:w.Size]
		if _, err := io.ReadFull(r, packed); err != nil {
			return unexpected(err)
		}
		from = w.Offset + w.Size
		if data, err = d.DecodeAll(packed, data[:0]); err != nil {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
		if err := w.put(data); err != nil {
			return err
		}
	}
	return nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
