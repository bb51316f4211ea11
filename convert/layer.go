package convert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/lithify/lithify/erofs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// LayerJob is everything the bytes of a converted layer depend on. Two jobs that
// are equal give the same bytes on every machine, so [LayerJob.Key] is the name
// under which a result is kept and found again.
//
// The digest of the uncompressed tar does not stand for a layer: what the layers
// below say (Context) and whether there are any (Bottom) change the bytes too.
type LayerJob struct {
	Source      digest.Digest  `json:"source"` // the compressed blob
	MediaType   string         `json:"mediaType"`
	Profile     erofs.Profile  `json:"profile"`
	Verity      bool           `json:"verity,omitempty"`
	InlineTails bool           `json:"inlineTails,omitempty"`
	Bottom      bool           `json:"bottom"`
	Context     *erofs.Context `json:"context,omitempty"`
	// Below is the key of the layer below, of a layer of Windows.
	Below  digest.Digest `json:"below,omitempty"`
	Writer string        `json:"writer"`
}

// Key is the digest of the job's one and only JSON form.
func (j LayerJob) Key() digest.Digest {
	raw, err := json.Marshal(j)
	if err != nil {
		panic(err) // strings, numbers and maps of them cannot fail
	}
	return digest.FromBytes(raw)
}

// layer is a layer of the target image: converted here, or found in the ledger.
type layer struct {
	*erofs.Layer
	view    *view        // what is known of its content, for the layers above
	proven  *Verified    // nil where nobody has looked
	pending *erofs.Needs // set instead where it cannot be made without a context
}

func (l *layer) needs() erofs.Needs {
	if l.pending != nil {
		return *l.pending
	}
	return l.Needs
}

// task is a layer that some selected manifest has.
type task struct {
	LayerJob
	desc   ocispec.Descriptor
	diffID digest.Digest // by the config; the tar must agree
}

// run gives the task's layer, present in the target: from the ledger where it
// has been made before, else by converting.
func (c *conversion) run(ctx context.Context, t task, serial bool) (*layer, error) {
	ctx, span := tracer.Start(ctx, "layer")
	defer span.End()
	began := time.Now()
	l, err := c.reuse(ctx, t)
	if l != nil {
		return l, nil
	}
	if err == nil {
		l, err = c.convertLayer(ctx, t, serial)
	}
	if unresolved := (*erofs.UnresolvedError)(nil); errors.As(err, &unresolved) && t.Context == nil {
		return &layer{pending: &unresolved.Needs}, nil
	}
	if err != nil {
		span.RecordError(err)
		c.event(Event{Layer: t.desc.Digest, Phase: "failed", Total: t.desc.Size})
		return nil, fmt.Errorf("layer %s: %w", t.desc.Digest, err)
	}
	blob := c.blobOf(l.Layer)
	c.event(Event{Layer: t.desc.Digest, Phase: "converted", Done: t.desc.Size, Total: t.desc.Size, Took: time.Since(began), Result: &blob})
	return l, nil
}

// convertLayer streams the layer from the source through the writer into the target.
func (c *conversion) convertLayer(ctx context.Context, t task, serial bool) (*layer, error) {
	made, proven, err := c.make(ctx, t, serial)
	if err != nil {
		return nil, err
	}
	if err := c.opts.Ledger.put(ctx, c.dst, record{Job: t.LayerJob, Layer: made, Verified: proven, Seen: []string{RegistryOf(c.src.Name())}}, c.copying(t, made.Size)); err != nil {
		if c.ledgerOnly {
			return nil, err
		}
		c.log.WarnContext(ctx, "layer not entered in the ledger", "layer", t.desc.Digest, "err", err)
	}
	return &layer{Layer: made, view: c.viewOf(t, made), proven: proven}, nil
}

// make sends the layer while it is made where that is possible, else by way of a
// temporary file. What is to be verified before anybody has it needs the file.
func (c *conversion) make(ctx context.Context, t task, serial bool) (_ *erofs.Layer, proven *Verified, _ error) {
	spool := func(in *unpacked) (made *erofs.Layer, err error) {
		made, proven, err = c.spool(ctx, t, in, c.writerOptions(t, in, serial))
		return made, err
	}
	made, err := c.unpack(ctx, t, func(in *unpacked) (*erofs.Layer, error) {
		if s, ok := c.dst.(streamer); ok && in.size > 0 && !c.opts.Verify.full() {
			return c.stream(ctx, t, in, s, c.writerOptions(t, in, serial))
		}
		return spool(in)
	})
	if made != nil || err != nil {
		return made, proven, err
	}
	made, err = c.unpack(ctx, t, spool)
	return made, proven, err
}

func (c *conversion) writerOptions(t task, in *unpacked, serial bool) erofs.Options {
	return erofs.Options{
		Profile:     t.Profile,
		Verity:      t.Verity,
		InlineTails: t.InlineTails,
		Bottom:      t.Bottom,
		Context:     t.Context,
		Carrier:     t.Source,
		Limits:      c.opts.Limits,
		TarSize:     in.size,
		TempDir:     c.opts.TempDir,
		Serial:      serial,
		Progress:    func(int64) { in.blob.told() },
	}
}

// spool converts into a temporary file, compares that with the tar, and pushes it.
func (c *conversion) spool(ctx context.Context, t task, in *unpacked, opts erofs.Options) (_ *erofs.Layer, _ *Verified, err error) {
	f, err := TempFile(c.opts.TempDir)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	made, proven, err := c.write(ctx, t, in, opts, f)
	if err != nil {
		return nil, nil, err
	}
	return made, proven, c.pushFile(ctx, t, made, f.File)
}

// write converts into f and compares that with the tar.
func (c *conversion) write(ctx context.Context, t task, in *unpacked, opts erofs.Options, f *Scratch) (_ *erofs.Layer, _ *Verified, err error) {
	w, tar, err := c.witnessed(t, in.tar)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	made, err := erofs.Convert(ctx, &telling{f, in.blob.told}, tar, opts)
	if err = w.end(err); err != nil {
		return nil, nil, c.blame(in.blob, err)
	}
	if err := in.blob.drain(); err != nil {
		return nil, nil, err
	}
	if c.opts.written != nil {
		c.opts.written(f.File, made)
	}
	proven, err := w.compare(ctx, f, made, t.Context, in.blob.told)
	return made, proven, err
}

// open fetches the task's blob and reports how far it is read.
func (c *conversion) open(ctx context.Context, t task) (*checked, error) {
	blob, err := fetch(ctx, c.src, t.desc)
	if err != nil {
		return nil, err
	}
	blob.told = func() {
		c.event(Event{Layer: t.desc.Digest, Phase: "convert", Done: blob.read(), Total: t.desc.Size})
	}
	return blob, nil
}

// unpacked is a task's blob and the tar in it.
type unpacked struct {
	blob *checked
	tar  *decompressed
	size int64 // of the tar, likely; 0: unknown, or of no use to the profile
}

// unpack has read called with the task's tar.
func (c *conversion) unpack(ctx context.Context, t task, read func(*unpacked) (*erofs.Layer, error)) (*erofs.Layer, error) {
	blob, err := c.open(ctx, t)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	tar, err := decompress(blob)
	if err != nil {
		return nil, c.blame(blob, err)
	}
	defer tar.Close()
	in := &unpacked{blob: blob, tar: tar}
	if t.Profile == erofs.ProfileTar {
		in.size = c.tarSize(ctx, t, tar)
	}
	return read(in)
}

// telling is the writer's file. What is copied up from layers below comes from no
// tar, and the image is read back for its digests when the tar has ended: both
// take as long as reading the tar did.
type telling struct {
	*Scratch
	told func()
}

func (f *telling) WriteAt(p []byte, off int64) (int, error) {
	defer f.told()
	return f.Scratch.WriteAt(p, off)
}

func (f *telling) ReadAt(p []byte, off int64) (int, error) {
	defer f.told()
	return f.Scratch.ReadAt(p, off)
}

func (f *telling) Map(off int64, n int) ([]byte, func() error, error) {
	defer f.told()
	return erofs.MapFile(f.File, off, n)
}

// blame finds out whether a decoder's complaint is about what was sent or about
// the sending: bytes that match their digest and do not decode will never decode.
func (c *conversion) blame(blob *checked, err error) error {
	var unresolved *erofs.UnresolvedError
	if errors.As(err, &unresolved) || Permanent(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if errors.Is(err, errContent) && blob.drain() == nil {
		return refused(blob.desc.Digest, "the blob is complete, but %v; push the image again from where it was built", err)
	}
	return err
}

// pushFile brings the file of a converted layer to the target, by giving it a name
// there where the target is a directory on the same file system.
func (c *conversion) pushFile(ctx context.Context, t task, made *erofs.Layer, f *os.File) error {
	desc := c.blobOf(made)
	has, err := c.dst.Has(ctx, desc)
	if err != nil || has {
		return err
	}
	if a, ok := c.dst.(adopter); ok {
		if done, err := a.Adopt(ctx, desc, f); done || err != nil {
			return err
		}
	}
	return c.dst.Push(ctx, desc, func() (io.ReadCloser, error) {
		return io.NopCloser(c.metered(io.NewSectionReader(f, 0, made.Size), Event{Layer: t.desc.Digest, Phase: "push", Total: made.Size})), nil
	})
}

// adopter is a Target that can take a file instead of its bytes.
type adopter interface {
	// Adopt makes f, which may have no name of its own, the blob desc names. It
	// reports false where only copying would do. f stays open, and the caller's to
	// close, and is not written any more.
	Adopt(ctx context.Context, desc ocispec.Descriptor, f *os.File) (bool, error)
}
