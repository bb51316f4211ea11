package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/upload/uploadprovider"
	"github.com/tonistiigi/fsutil"
)

// input is a context that the daemon can be given.
type input struct {
	attrs  map[string]string
	mounts map[string]fsutil.FS
	shared string // key under which the daemon keeps what it was sent, to be sent less the next time
	attach []session.Attachable
	bound  *bound
	close  func()
}

// open finds the context of r. Where that cannot be sent, end is called with the reason.
func open(r Request, end func(error)) (*input, error) {
	in := &input{attrs: map[string]string{}, bound: newBound(r, end), close: func() {}}
	switch {
	case r.Archive != nil:
		in.archive(r, io.NopCloser(r.Archive))
		return in, nil
	case IsGit(r.Context):
		in.attrs["context"] = r.Context
		in.attrs["filename"] = inside(r)
		return in, nil
	}
	info, err := os.Stat(r.Context)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("context %s: %w: want a directory, a tar archive or the URL of a Git repository", r.Context, errdefs.ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("context: %w", err)
	case info.IsDir():
		return in, in.directory(r)
	case !info.Mode().IsRegular():
		return nil, invalid("context %s is neither a directory nor a file", r.Context)
	}
	f, err := os.Open(r.Context)
	if err != nil {
		return nil, fmt.Errorf("context: %w", err)
	}
	in.archive(r, f)
	in.close = func() { f.Close() }
	return in, nil
}

// inside is the Dockerfile's name in a context that the daemon opens.
func inside(r Request) string {
	if r.Dockerfile == "" {
		return "Dockerfile"
	}
	return filepath.ToSlash(r.Dockerfile)
}

func (in *input) directory(r Request) error {
	dockerfile := r.Dockerfile
	if dockerfile == "" {
		dockerfile = filepath.Join(r.Context, "Dockerfile")
	}
	if err := checkDockerfile(dockerfile); err != nil {
		return err
	}
	files, err := fsutil.NewFS(r.Context)
	if err != nil {
		return fmt.Errorf("context: %w", err)
	}
	beside, err := fsutil.NewFS(filepath.Dir(dockerfile))
	if err != nil {
		return fmt.Errorf("dockerfile: %w", err)
	}
	in.mounts = map[string]fsutil.FS{"context": &boundFS{files, in.bound}, "dockerfile": beside}
	in.attrs["filename"] = filepath.Base(dockerfile)
	in.shared, err = filepath.Abs(r.Context)
	return err
}

func checkDockerfile(path string) error {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w: name the Dockerfile with -f", path, errdefs.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("dockerfile: %w", err)
	}
	return checkSyntax(path, raw)
}

// checkSyntax refuses a Dockerfile in a language that the built-in frontend does not
// speak. docker/dockerfile is what is built in, its experimental versions are not.
func checkSyntax(path string, raw []byte) error {
	ref, _, at, ok := parser.DetectSyntax(raw)
	if !ok {
		return nil
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err == nil && named.Name() == "docker.io/docker/dockerfile" {
		if tagged, ok := named.(reference.Tagged); !ok || !strings.Contains(tagged.Tag(), "labs") {
			return nil
		}
	}
	line := 1
	if len(at) > 0 {
		line = at[0].Start.Line
	}
	return invalid("%s:%d: the frontend %s would be pulled and run; only docker/dockerfile, which buildkitd has built in, is used", path, line, ref)
}

// archive sends it as it is; the daemon unpacks it.
func (in *input) archive(r Request, rc io.ReadCloser) {
	up := uploadprovider.New()
	in.attrs["context"] = up.Add(&boundFile{rc, in.bound, "its end"})
	in.attrs["filename"] = inside(r)
	in.attach = append(in.attach, up)
}

// bound counts what is sent. What goes wrong on this side first is what ends the build:
// BuildKit 0.34 waits for ever for a file that cannot be read.
type bound struct {
	context string
	limits  Limits
	bytes   atomic.Int64
	end     func(error) // the build
}

func newBound(r Request, end func(error)) *bound {
	return &bound{context: r.Context, end: end, limits: Limits{
		Bytes:   cmp.Or(r.Limits.Bytes, DefaultLimits.Bytes),
		Entries: cmp.Or(r.Limits.Entries, DefaultLimits.Entries),
	}}
}

// take is for n more bytes of what is at path.
func (b *bound) take(n int64, path string) error {
	if b.bytes.Add(n) <= b.limits.Bytes {
		return nil
	}
	return b.fail(b.over(b.limits.Bytes, "bytes", path))
}

// entry is for the nth one that is at path.
func (b *bound) entry(n int64, path string) error {
	if n <= b.limits.Entries {
		return nil
	}
	return b.fail(b.over(b.limits.Entries, "entries", path))
}

func (b *bound) over(limit int64, what, path string) error {
	return invalid("context %s holds more than %d %s (at %s); name what the build does not need in .dockerignore", b.context, limit, what, path)
}

func (b *bound) fail(err error) error {
	b.end(err)
	return err
}

// boundFS is below .dockerignore: what that leaves out is neither walked nor opened.
type boundFS struct {
	fsutil.FS
	b *bound
}

func (f *boundFS) Walk(ctx context.Context, target string, fn fs.WalkDirFunc) error {
	var n int64 // of this walk: the daemon may ask for several
	return f.FS.Walk(ctx, target, func(path string, d fs.DirEntry, err error) error {
		if n++; err == nil {
			err = f.b.entry(n, path)
		}
		return fn(path, d, err)
	})
}

func (f *boundFS) Open(path string) (io.ReadCloser, error) {
	rc, err := f.FS.Open(path)
	if err != nil {
		return nil, f.b.fail(fmt.Errorf("context: %w", err))
	}
	return &boundFile{rc, f.b, path}, nil
}

type boundFile struct {
	io.ReadCloser
	b    *bound
	path string
}

func (f *boundFile) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if over := f.b.take(int64(n), f.path); over != nil {
		return n, over
	}
	if err != nil && err != io.EOF {
		return n, f.b.fail(fmt.Errorf("context: %w", err))
	}
	return n, err
}
