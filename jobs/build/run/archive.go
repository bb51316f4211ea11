package run

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/build"
	buildjob "github.com/lithify/lithify/jobs/build"
)

func blob(a *buildjob.Archive) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: a.Digest, Size: a.Size}
}

// Send gives a job whose context is a directory or an archive of this machine the context
// as a blob in the target's repository, where any worker can read it.
func (h Handler) Send(ctx context.Context, a buildjob.Args) (buildjob.Args, error) {
	f, err := os.CreateTemp(h.Convert.TempDir, "lithify-context-")
	if err != nil {
		return a, fmt.Errorf("context: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	sum := digest.Canonical.Digester()
	if a.Dockerfile, err = pack(ctx, a, io.MultiWriter(f, sum.Hash())); err != nil {
		return a, err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return a, fmt.Errorf("context: %w", err)
	}
	a.Context, a.Archive = "", &buildjob.Archive{Digest: sum.Digest(), Size: size}
	dst, _, err := h.Convert.Output(ctx, a.Output)
	if err != nil {
		return a, err
	}
	desc := blob(a.Archive)
	if has, err := dst.Has(ctx, desc); has || err != nil {
		return a, err
	}
	return a, dst.Push(ctx, desc, func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(f, 0, size)), nil
	})
}

// pack writes the context and gives the Dockerfile's name inside.
func pack(ctx context.Context, a buildjob.Args, w io.Writer) (string, error) {
	info, err := os.Stat(a.Context)
	if err != nil {
		return "", fmt.Errorf("context: %w", err)
	}
	if info.IsDir() {
		return build.WriteArchive(ctx, build.Request{Context: a.Context, Dockerfile: a.Dockerfile}, w)
	}
	f, err := os.Open(a.Context)
	if err != nil {
		return "", fmt.Errorf("context: %w", err)
	}
	defer f.Close()
	n, err := io.Copy(w, io.LimitReader(f, build.DefaultLimits.Bytes+1))
	if err == nil && n > build.DefaultLimits.Bytes {
		err = fmt.Errorf("it has more than %d bytes: %w", build.DefaultLimits.Bytes, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return "", fmt.Errorf("context %s: %w", a.Context, err)
	}
	return a.Dockerfile, nil
}

// fetch opens content of the target's repository. What is read is checked: other content than
// desc says is an error in place of its end.
func (h Handler) fetch(ctx context.Context, a buildjob.Args, desc ocispec.Descriptor) (io.ReadCloser, error) {
	repository, err := repositoryOf(a)
	if err != nil {
		return nil, err
	}
	src, err := h.Convert.Open(repository+"@"+desc.Digest.String(), a.Insecure)
	if err != nil {
		return nil, err
	}
	rc, err := src.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	return &checked{rc, desc, desc.Size, desc.Digest.Verifier()}, nil
}

type checked struct {
	io.ReadCloser
	desc ocispec.Descriptor
	left int64
	sum  digest.Verifier
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.left -= int64(n)
	c.sum.Write(p[:n])
	if c.left < 0 || err == io.EOF && (c.left > 0 || !c.sum.Verified()) {
		return n, fmt.Errorf("content of %s is another: %w", c.desc.Digest, errdefs.ErrDataLoss)
	}
	return n, err
}
