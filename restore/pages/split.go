package pages

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"runtime"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/lithify/lithify/restore/archive"
)

// batch is how many chunks are in work at once.
const batch = 64

// Split writes the pages of the checkpoint in dir into packs, each in a writer that create
// gives and Split closes. What previous has is not written again: the packs of it that the
// index names are those that the caller puts into the manifest as well. previous may be nil. The
// same memory gives the same packs.
//
// The new packs are the last ones of the index. The checkpoint is validated on the way.
func Split(ctx context.Context, dir string, previous *Index, create func() (io.WriteCloser, error)) (_ *Index, err error) {
	memories, err := archive.Memories(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	s, err := newSplitter(previous, create)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.encoder.Close()) }()
	for _, m := range memories {
		if err := s.file(ctx, root, m); err != nil {
			return nil, errors.Join(fmt.Errorf("split %s: %w", m.File, err), s.abandon())
		}
	}
	if err := s.endPack(); err != nil {
		return nil, err
	}
	return s.finish(), nil
}

// splitter makes packs.
type splitter struct {
	create   func() (io.WriteCloser, error)
	encoder  *zstd.Encoder
	previous *Index
	known    map[Sum]Chunk // by what previous calls its packs: the number, and -1 for ours
	index    Index
	own      []Pack
	used     map[int]bool // packs of previous

	pack   io.WriteCloser
	digest digest.Digester
	size   int64
}

func newSplitter(previous *Index, create func() (io.WriteCloser, error)) (*splitter, error) {
	// Each frame stands alone; the chunk's sum is better than a checksum of the frame.
	e, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false), zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)))
	if err != nil {
		return nil, err
	}
	s := &splitter{create: create, encoder: e, known: map[Sum]Chunk{}, used: map[int]bool{}, index: Index{Version: version}}
	if previous == nil || len(previous.Packs) >= maxPacks {
		return s, nil
	}
	s.previous = previous
	for _, f := range previous.Files {
		for _, c := range f.Chunks {
			if c.Size > 0 {
				s.known[c.Sum] = c
			}
		}
	}
	return s, nil
}

// lengths cuts a file of pages: what is in one window of addresses is a chunk.
func lengths(m archive.Memory) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		n, at := int64(0), uint64(0)
		for _, r := range m.Runs {
			for i := range r.Pages {
				w := (r.Addr + uint64(i*m.PageSize)) / window
				if n > 0 && (w != at || n+m.PageSize > window) {
					if !yield(n) {
						return
					}
					n = 0
				}
				at, n = w, n+m.PageSize
			}
		}
		if n > 0 {
			yield(n)
		}
	}
}

// piece is a chunk in work.
type piece struct {
	data   []byte
	chunk  Chunk
	packed []byte // compressed, if it is new
}

func (s *splitter) file(ctx context.Context, root *os.Root, m archive.Memory) error {
	f, err := root.Open(m.File)
	if err != nil {
		return err
	}
	defer f.Close()
	s.index.Files = append(s.index.Files, File{Name: m.File})
	var pieces [batch]piece
	n := 0
	for length := range lengths(m) {
		p := &pieces[n]
		p.data = slices.Grow(p.data[:0], int(length))[:length]
		if _, err := io.ReadFull(f, p.data); err != nil {
			return err
		}
		if n++; n == batch {
			if err := s.batch(ctx, pieces[:n]); err != nil {
				return err
			}
			n = 0
		}
	}
	return s.batch(ctx, pieces[:n])
}

var zeros [window]byte

// batch finds out about pieces side by side, and writes the new ones in their order.
func (s *splitter) batch(ctx context.Context, pieces []piece) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range pieces {
		g.Go(func() error {
			p := &pieces[i]
			p.chunk, p.packed = Chunk{Length: int64(len(p.data))}, p.packed[:0]
			if bytes.Equal(p.data, zeros[:len(p.data)]) {
				return nil
			}
			p.chunk.Sum = sha256.Sum256(p.data)
			if _, ok := s.known[p.chunk.Sum]; !ok {
				p.packed = s.encoder.EncodeAll(p.data, p.packed)
			}
			return context.Cause(ctx)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	file := &s.index.Files[len(s.index.Files)-1]
	for i := range pieces {
		if err := s.place(&pieces[i]); err != nil {
			return err
		}
		file.Chunks = append(file.Chunks, pieces[i].chunk)
	}
	return nil
}

// place finds a chunk in a pack, or puts it into ours. Packs of previous have their number
// in it, ours are counted down from -1, until finish.
func (s *splitter) place(p *piece) error {
	if p.chunk.Sum == (Sum{}) {
		return nil
	}
	known, ok := s.known[p.chunk.Sum]
	if ok {
		p.chunk = known
		if known.Pack >= 0 {
			s.used[known.Pack] = true
		}
		return nil
	}
	if err := s.startPack(); err != nil {
		return err
	}
	p.chunk.Pack, p.chunk.Offset, p.chunk.Size = -1-len(s.own), s.size, int64(len(p.packed))
	s.known[p.chunk.Sum] = p.chunk
	if _, err := s.pack.Write(p.packed); err != nil {
		return err
	}
	s.digest.Hash().Write(p.packed)
	if s.size += p.chunk.Size; s.size >= packSize {
		return s.endPack()
	}
	return nil
}

func (s *splitter) startPack() (err error) {
	if s.pack == nil {
		s.digest, s.size = digest.Canonical.Digester(), 0
		s.pack, err = s.create()
	}
	return err
}

func (s *splitter) endPack() error {
	if s.pack == nil {
		return nil
	}
	s.own = append(s.own, Pack{s.digest.Digest(), s.size})
	return s.abandon()
}

func (s *splitter) abandon() error {
	if s.pack == nil {
		return nil
	}
	defer func() { s.pack = nil }()
	return s.pack.Close()
}

// finish gives all packs that are used their numbers.
func (s *splitter) finish() *Index {
	number := map[int]int{}
	if s.previous != nil {
		for i, p := range s.previous.Packs {
			if s.used[i] {
				number[i] = len(s.index.Packs)
				s.index.Packs = append(s.index.Packs, p)
			}
		}
	}
	for i, p := range s.own {
		number[-1-i] = len(s.index.Packs)
		s.index.Packs = append(s.index.Packs, p)
	}
	for _, f := range s.index.Files {
		for i := range f.Chunks {
			if f.Chunks[i].Size > 0 {
				f.Chunks[i].Pack = number[f.Chunks[i].Pack]
			}
		}
	}
	return &s.index
}
