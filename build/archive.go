package build

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/patternmatcher/ignorefile"
	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"
)

// WriteArchive writes the context of r, a directory, as an archive that is a context: without
// what .dockerignore leaves out, and as nobody's. It gives the Dockerfile's name inside. The
// same directory gives the same bytes.
func WriteArchive(ctx context.Context, r Request, w io.Writer) (dockerfile string, err error) {
	if dockerfile, err = dockerfileIn(r); err != nil {
		return "", err
	}
	if err := checkDockerfile(filepath.Join(r.Context, dockerfile)); err != nil {
		return "", err
	}
	excludes, err := ignored(r.Context, dockerfile)
	if err != nil {
		return "", err
	}
	all, err := fsutil.NewFS(r.Context)
	if err != nil {
		return "", fmt.Errorf("context: %w", err)
	}
	building, refuse := context.WithCancelCause(ctx)
	defer refuse(nil)
	files, err := fsutil.NewFilterFS(&boundFS{all, newBound(r, refuse)}, &fsutil.FilterOpt{
		ExcludePatterns: excludes,
		Map: func(_ string, s *types.Stat) fsutil.MapResult {
			s.Uid, s.Gid = 0, 0
			return fsutil.MapResultKeep
		},
	})
	if err != nil {
		return "", invalid(".dockerignore: %w", err)
	}
	compressed := gzip.NewWriter(w)
	err = errors.Join(fsutil.WriteTar(building, files, compressed), compressed.Close())
	if cause := context.Cause(building); cause != nil && ctx.Err() == nil {
		err = cause
	}
	if err != nil {
		return "", fmt.Errorf("context %s: %w", r.Context, err)
	}
	return filepath.ToSlash(dockerfile), nil
}

// dockerfileIn is the Dockerfile's path below the context.
func dockerfileIn(r Request) (string, error) {
	if r.Dockerfile == "" {
		return "Dockerfile", nil
	}
	dir, err := filepath.Abs(r.Context)
	if err != nil {
		return "", err
	}
	path, err := filepath.Abs(r.Dockerfile)
	if err != nil {
		return "", err
	}
	name, err := filepath.Rel(dir, path)
	if err != nil || !filepath.IsLocal(name) {
		return "", invalid("the Dockerfile %s lies outside of the context %s, of which the pool gets all that it reads", r.Dockerfile, r.Context)
	}
	return name, nil
}

// ignored are the patterns of what is left out. The Dockerfile never is.
func ignored(dir, dockerfile string) ([]string, error) {
	for _, name := range []string{dockerfile + ".dockerignore", ".dockerignore"} {
		f, err := os.Open(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("context: %w", err)
		}
		defer f.Close()
		patterns, err := ignorefile.ReadAll(f)
		if err != nil {
			return nil, invalid("%s: %w", strings.TrimPrefix(f.Name(), dir), err)
		}
		return append(patterns, "!"+filepath.ToSlash(dockerfile)), nil
	}
	return nil, nil
}
