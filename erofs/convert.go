package erofs

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"

	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"
	"github.com/lithify/lithify/erofs/verity"
	"github.com/opencontainers/go-digest"
)

// Convert reads the decompressed tar of a layer from src to its end and writes
// the layer's blob to dst, which must be empty.
//
// It refuses an entry with an [*EntryError] and a layer that is too large with a
// [*LimitError]; both are final for these bytes. An [*UnresolvedError] comes
// after the whole tar has been read. After any error dst holds rubbish. Errors
// of src and dst are wrapped.
//
// Convert ends soon after ctx does, but not before a Read of src returns.
func Convert(ctx context.Context, dst File, src io.Reader, opts Options) (*Layer, error) {
	c, err := newConversion(ctx, dst, src, opts)
	if err != nil {
		return nil, err
	}
	if err := c.run(); err != nil {
		return nil, err
	}
	return c.seal(ctx, dst)
}

func newConversion(ctx context.Context, dst io.WriterAt, src io.Reader, opts Options) (*conversion, error) {
	opts.Profile = cmp.Or(opts.Profile, ProfileRaw)
	switch {
	case opts.Verity && opts.Unhashed:
		return nil, errors.New("a dm-verity tree is hashes: Options.Verity and Unhashed exclude each other")
	case opts.InlineTails && opts.Profile.inTar():
		return nil, fmt.Errorf("%s leaves files where the tar has them: Options.InlineTails and that profile exclude each other", opts.Profile)
	case opts.Verity && opts.Profile.inTar():
		return nil, fmt.Errorf("a dm-verity device has the blocks of its tree, 4096 bytes, and %s has blocks of 512: Options.Verity and that profile exclude each other", opts.Profile)
	}
	if opts.Carrier != "" {
		if err := opts.Carrier.Validate(); err != nil {
			return nil, fmt.Errorf("Options.Carrier %q: %w", opts.Carrier, err)
		}
	}
	opts.Limits = opts.Limits.withDefaults()
	c := &conversion{opts: opts}
	if opts.Profile == ProfileTar && opts.TarSize > 0 && !opts.Unhashed {
		c.sums = &blobSums{sha256.New(), sha256.New()}
	}
	blob, err := newBlobWriter(dst, opts, c.sums)
	if err != nil {
		return nil, err
	}
	if opts.Verity {
		blob = newHashedBlob(blob, opts)
	}
	c.in, c.out = newInput(ctx, src, opts), newOutput(blob, opts)
	c.tree = newTree(opts.Limits)
	c.layout = c.newLayout()
	return c, nil
}

func newBlobWriter(dst io.WriterAt, opts Options, sums *blobSums) (blobWriter, error) {
	switch opts.Profile {
	case ProfileRaw, ProfileTar, ProfileIndex:
		return newRawBlob(dst, opts.Serial, sums), nil
	case ProfileZstd:
		return newFrameBlob(dst, opts.Serial)
	}
	_, err := ParseProfile(string(opts.Profile))
	return nil, err
}

func (c *conversion) newLayout() layout {
	if !c.opts.Profile.inTar() {
		g := &gathered{in: c.in, out: c.out, tree: c.tree}
		if c.opts.InlineTails {
			g.tails = &spill{dir: c.opts.TempDir}
			c.tails = g.tails
		}
		return g
	}
	v := &verbatim{in: c.in, out: c.out, tree: c.tree, base: headSize, spill: spill{dir: c.opts.TempDir}}
	if c.opts.Profile == ProfileIndex {
		v.base, v.where = 0, outside
	} else {
		c.in.copy = c.copyTar
	}
	return v
}

// outChunks lets one chunk be filled, one be written and one wait; compression
// holds one more for each compressor.
const outChunks = 3

func newOutput(blob blobWriter, opts Options) *output {
	n, size := outChunks, outChunk
	if opts.Profile == ProfileZstd {
		n, size = n+compressors(opts.Serial), imageChunk
	}
	if opts.Serial {
		n = 1
	}
	bits := blocks4K
	if opts.Profile.inTar() {
		bits = blocks512
	}
	return &output{blob: blob, pool: newChunkPool(n, size), bits: bits, max: opts.Limits.Bytes, limit: opts.Limits.bytesError()}
}

// conversion is one run of Convert.
type conversion struct {
	opts   Options
	in     *input
	out    *output
	tree   *tree
	layout layout
	tails  *spill    // of the layout
	sums   *blobSums // nil: the blob has to be read back
	exact  bool      // a tar of another size than opts.TarSize is an error
	meta   metadata
	device *deviceSlot // of ProfileIndex
	layer  Layer
	head   []byte // of the image, once the rest is written
}

// run writes the whole image, but for a head that is not known before, which stays zero,
// and forgets the tree.
func (c *conversion) run() error {
	err := c.out.finish(c.write())
	cerr := c.layout.close()
	if w, ok := c.out.blob.(*hashedBlob); ok {
		cerr = errors.Join(cerr, w.tree.Close())
	}
	c.tree, c.layout, c.tails, c.meta = nil, nil, nil, metadata{}
	return cmp.Or(err, cerr)
}

// write writes everything but the head, and makes that.
func (c *conversion) write() error {
	err := c.stream()
	c.in.close()
	if err != nil {
		return err
	}
	c.head = c.finalHead()
	if w, ok := c.out.blob.(*hashedBlob); ok {
		return c.appendTree(w)
	}
	return nil
}

func (c *conversion) stream() error {
	if err := c.begin(); err != nil {
		return err
	}
	l := &layerReader{
		tar:    &tarReader{in: c.in, limits: c.opts.Limits},
		tree:   c.tree,
		layout: c.layout,
		opts:   c.opts,
	}
	if err := l.readAll(); err != nil {
		return err
	}
	if err := c.endTar(); err != nil {
		return err
	}
	c.meta = metadata{opts: c.opts, bits: c.out.bits, tails: c.tails, base: c.out.block()}
	if err := c.meta.walk(c.tree.root); err != nil {
		return err
	}
	c.layer = Layer{Profile: c.opts.Profile, TarSize: c.in.read, Entries: l.entries, Needs: Needs{Dirs: c.meta.needs, Links: l.lowerLinks(), RootNames: c.meta.hides}}
	if len(l.missing) > 0 || c.meta.nameless() {
		slices.Sort(l.missing)
		return &UnresolvedError{Needs: c.layer.Needs, links: l.missing}
	}
	return c.writeMetadata()
}

// begin writes the head, which is a piece, and a frame, of its own.
func (c *conversion) begin() error {
	head := make([]byte, headSize)
	if c.opts.Profile == ProfileTar && c.opts.TarSize > 0 {
		head = tarHead(c.opts.TarSize)
	}
	c.out.meta = true
	if _, err := c.out.Write(head); err != nil {
		return err
	}
	return c.endMeta()
}

// endMeta ends the piece that is head or metadata.
func (c *conversion) endMeta() error {
	err := c.out.flush()
	c.out.meta = false
	return err
}

// writeMetadata begins a new piece, and so a new frame.
func (c *conversion) writeMetadata() error {
	end, err := c.meta.place()
	if err != nil {
		return err
	}
	behind := c.layout.behind(end)
	if c.opts.Profile == ProfileIndex {
		c.device = &deviceSlot{blocks: uint32(c.in.read >> c.out.bits), at: uint32(behind)}
		behind += c.in.read >> c.out.bits
	}
	if behind > math.MaxUint32 {
		return errImageTooLarge
	}
	if c.device != nil {
		c.meta.mapOutside(c.device.at)
	}
	if err := c.out.flush(); err != nil {
		return err
	}
	c.layer.Metadata.Offset = c.out.pos
	c.out.meta = true
	if err := c.meta.write(c.out); err != nil {
		return err
	}
	if err := c.endMeta(); err != nil {
		return err
	}
	c.layer.Metadata.Size = c.out.pos - c.layer.Metadata.Offset
	return c.layout.finish()
}

// uuidSpace is what containerd derives the UUID of an EROFS layer from, before
// the digest of its tar.
const uuidSpace = "erofs:blobs/"

// finalHead is the head of the image that ends here, which gets its UUID.
func (c *conversion) finalHead() []byte {
	l := &c.layer
	if !c.opts.Unhashed {
		l.TarDigest = c.in.tarDigest()
	}
	if !c.opts.Unhashed && l.Profile != ProfileTar {
		l.UUID = uuid.NewSHA1(uuid.NameSpaceURL, []byte(uuidSpace+l.TarDigest.String()))
	}
	if l.Profile == ProfileTar {
		return tarHead(l.TarSize)
	}
	super := superblock{
		bits:      c.out.bits,
		inodes:    uint64(len(c.meta.order)),
		blocks:    c.out.block(),
		metaBlock: c.meta.base,
		uuid:      l.UUID,
		chunked:   c.meta.chunked,
		unsummed:  c.out.bits == blocks512,
		device:    c.device,
	}
	if tag := cmp.Or(c.opts.Carrier, l.TarDigest); c.device != nil && tag != "" {
		c.device.tag = TagOf(tag)
	}
	return super.encode()
}

// seal puts the superblock in its place and digests what has been written, unless both
// has been done on the way.
func (c *conversion) seal(ctx context.Context, dst File) (*Layer, error) {
	l := &c.layer
	final := l.Profile == ProfileTar && l.TarSize == c.opts.TarSize && l.TarSize > 0
	if !final {
		if err := c.out.blob.patch(c.head); err != nil {
			return nil, fmt.Errorf("write superblock: %w", err)
		}
	}
	l.ImageSize = c.out.pos
	l.Size = c.out.blob.size()
	l.Metadata.BlobOffset = c.out.blob.blobOffset(l.Metadata.Offset)
	l.Chunks = c.out.blob.chunkIndex()
	if final {
		return c.sealed(), nil
	}
	if c.opts.Unhashed {
		return l, nil
	}
	if err := c.digests(ctx, dst); err != nil {
		return nil, fmt.Errorf("read image back: %w", err)
	}
	return l, nil
}

// digests reads the blob once for its own digest and those of what it holds.
func (c *conversion) digests(ctx context.Context, dst File) error {
	l := &c.layer
	sum, span := sha256.New(), sha256.New()
	imageSum := sum
	blob, image, m := io.Writer(sum), io.Reader(io.NewSectionReader(dst, 0, l.Size)), mapperOf(dst)
	var file *verity.FileDigest
	if c.opts.Verity {
		file = verity.NewFileDigest()
		blob = &bothWriter{sum, file, c.opts.Serial}
	}
	w := blob
	if l.Profile == ProfileZstd {
		dec, err := zstd.NewReader(io.TeeReader(image, blob), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return err
		}
		defer dec.Close()
		imageSum = sha256.New()
		w, image, m = imageSum, dec, nil
	}
	w = io.MultiWriter(w, &spanWriter{w: span, span: l.Metadata})
	n, err := c.copyMapped(ctx, w, m, l.Size)
	if errors.Is(err, errors.ErrUnsupported) {
		if n > 0 {
			image = io.NewSectionReader(dst, n, l.Size-n)
		}
		var rest int64
		rest, err = c.copy(ctx, w, image)
		n += rest
	}
	if err != nil {
		return err
	}
	if n != l.ImageSize {
		return fmt.Errorf("%d bytes instead of %d", n, l.ImageSize)
	}
	l.Digest = digest.NewDigest(digest.SHA256, sum)
	l.ImageDigest = digest.NewDigest(digest.SHA256, imageSum)
	l.Metadata.Digest = digest.NewDigest(digest.SHA256, span)
	if file != nil {
		l.FSVerity = file.Digest()
	}
	return nil
}

// bothWriter writes to two writers at the same time, unless in serial mode. Neither
// fails but for a page that cannot be read, see faultless.
type bothWriter struct {
	a, b   io.Writer
	serial bool
}

func (w *bothWriter) Write(p []byte) (n int, err error) {
	if w.serial {
		w.a.Write(p)
		return w.b.Write(p)
	}
	var berr error
	var wg sync.WaitGroup
	wg.Go(func() { berr = faultless(func() { w.b.Write(p) }) })
	err = faultless(func() { w.a.Write(p) })
	wg.Wait()
	return len(p), cmp.Or(err, berr)
}

// copy is io.Copy for a w that does not fail. It reads ahead of what it writes, and
// looks at ctx once for each chunk.
func (c *conversion) copy(ctx context.Context, w io.Writer, r io.Reader) (n int64, err error) {
	in := newInput(ctx, r, Options{Limits: Limits{Bytes: math.MaxInt64}, Serial: c.opts.Serial, Unhashed: true})
	defer in.close()
	for {
		if err := in.next(); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
		n += int64(len(in.rest))
		w.Write(in.rest)
	}
}

// spanWriter passes on the head and the metadata of an image that is written to it.
type spanWriter struct {
	w    io.Writer
	span Span
	pos  int64
}

func (s *spanWriter) Write(p []byte) (int, error) {
	from, to := s.pos, s.pos+int64(len(p))
	s.pos = to
	for _, part := range []extent{{0, headSize}, {s.span.Offset, s.span.Size}} {
		if lo, hi := max(from, part.off), min(to, part.end()); lo < hi {
			if _, err := s.w.Write(p[lo-from : hi-from]); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}
