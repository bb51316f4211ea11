package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/build"
	"github.com/lithify/lithify/convert"
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
	defer func() { f.Close(); os.Remove(f.Name()) }()
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

// fetch brings a context that was sent to this machine. remove is to be called in any case.
func (h Handler) fetch(ctx context.Context, a buildjob.Args) (path string, remove func(), err error) {
	remove = func() {}
	if a.Archive.Size > build.DefaultLimits.Bytes {
		return "", remove, fmt.Errorf("context %s has %d bytes, more than %d: %w", a.Archive.Digest, a.Archive.Size, build.DefaultLimits.Bytes, errdefs.ErrInvalidArgument)
	}
	repository, err := repositoryOf(a)
	if err != nil {
		return "", remove, err
	}
	f, err := os.CreateTemp(h.Convert.TempDir, "lithify-context-")
	if err != nil {
		return "", remove, fmt.Errorf("context: %w: %w", err, convert.ErrTemp)
	}
	remove = func() { os.Remove(f.Name()) }
	err = h.copyTo(ctx, f, a, repository, blob(a.Archive))
	return f.Name(), remove, errors.Join(err, f.Close())
}

// copyTo writes content of the target's repository, and checks it.
func (h Handler) copyTo(ctx context.Context, w io.Writer, a buildjob.Args, repository string, desc ocispec.Descriptor) error {
	src, err := h.Convert.Open(repository+"@"+desc.Digest.String(), a.Insecure)
	if err != nil {
		return err
	}
	rc, err := src.Fetch(ctx, desc)
	if err != nil {
		return err
	}
	defer rc.Close()
	check := desc.Digest.Verifier()
	n, err := io.Copy(io.MultiWriter(w, check), io.LimitReader(rc, desc.Size+1))
	if err != nil {
		return fmt.Errorf("fetch %s: %w", desc.Digest, err)
	}
	if n != desc.Size || !check.Verified() {
		return fmt.Errorf("%s in %s has other content than its digest says: %w", desc.Digest, repository, errdefs.ErrDataLoss)
	}
	return nil
}

func (h Handler) read(ctx context.Context, a buildjob.Args, repository string, desc ocispec.Descriptor) ([]byte, error) {
	var b bytes.Buffer
	err := h.copyTo(ctx, &b, a, repository, desc)
	return b.Bytes(), err
}
