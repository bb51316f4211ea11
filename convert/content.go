package convert

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxDocument bounds a manifest, index or config. Registries refuse manifests
// over 4 MiB; configs with a long history come near a few hundred KiB.
const maxDocument = 4 << 20

// checked reads content and compares it with its descriptor: at the end of the
// stream size and digest hold, or Read returns a RefusedError instead of io.EOF.
type checked struct {
	io.Closer
	src  io.Reader
	desc ocispec.Descriptor
	sum  digest.Verifier
	n    atomic.Int64
	told func() // of every read; nil: nobody
}

// read is how many bytes have arrived. Any goroutine may ask.
func (c *checked) read() int64 { return c.n.Load() }

func fetch(ctx context.Context, src Source, desc ocispec.Descriptor) (*checked, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, refused(src.Name(), "digest %q: %v", desc.Digest, err)
	}
	rc, err := src.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	return &checked{Closer: rc, src: rc, desc: desc, sum: desc.Digest.Verifier()}, nil
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.src.Read(p)
	if c.told != nil {
		c.told()
	}
	if c.n.Add(int64(n)) > c.desc.Size {
		return 0, refused(c.desc.Digest, "longer than the %d bytes its descriptor says", c.desc.Size)
	}
	c.sum.Write(p[:n])
	if err == io.EOF {
		if verr := c.verdict(); verr != nil {
			return n, verr
		}
	}
	return n, err
}

func (c *checked) verdict() error {
	if n := c.read(); n != c.desc.Size {
		return fmt.Errorf("fetch %s: %w after %d of %d bytes", c.desc.Digest, io.ErrUnexpectedEOF, n, c.desc.Size)
	}
	if !c.sum.Verified() {
		return refused(c.desc.Digest, "the bytes received have another digest")
	}
	return nil
}

// drain reads what a decoder has left unread, so that the digest is checked
// over everything.
func (c *checked) drain() error {
	_, err := io.Copy(io.Discard, c)
	return err
}

// fetchAll reads a manifest, index or config into memory, checked.
func fetchAll(ctx context.Context, src Source, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size < 0 || desc.Size > maxDocument {
		return nil, refused(desc.Digest, "%d bytes are too many for %s (the limit is %d)", desc.Size, desc.MediaType, maxDocument)
	}
	c, err := fetch(ctx, src, desc)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return io.ReadAll(c)
}

// Fetch opens content of src. What is read is checked: where it is not what desc says,
// Read returns an error in place of io.EOF. The caller closes it.
func Fetch(ctx context.Context, src Source, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return fetch(ctx, src, desc)
}

// FetchDocument reads a manifest, index or config into v, and gives its bytes. It is
// checked, and one of more than 4 MiB, or that does not parse, is a [RefusedError].
func FetchDocument(ctx context.Context, src Source, desc ocispec.Descriptor, v any) ([]byte, error) {
	raw, err := fetchAll(ctx, src, desc)
	if err != nil {
		return nil, err
	}
	return raw, decode(raw, desc, v)
}

// decode parses a document that came from outside; the error names it.
func decode(raw []byte, desc ocispec.Descriptor, v any) error {
	if err := json.Unmarshal(raw, v); err != nil {
		return refused(desc.Digest, "not a valid %s: %v", desc.MediaType, err)
	}
	return nil
}

// Describe is the descriptor of a document made here.
func Describe(mediaType string, raw []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
}
