package corpus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// Format is how a layer's tar is compressed.
type Format string

// The formats in which each layer is kept.
const (
	Tar  Format = "tar"
	Gzip Format = "tar.gz"  // by gzip -6
	Zstd Format = "tar.zst" // by zstd -3
)

// Formats lists them all.
var Formats = []Format{Tar, Gzip, Zstd}

// Layer is one layer in the cache.
type Layer struct {
	Name  string          `json:"name"`
	Made  string          `json:"made"` // how, for a person
	Blobs map[Format]Blob `json:"blobs"`

	dir string
}

// Blob is a layer in one format.
type Blob struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
}

// Path is the file that holds the layer in a format.
func (l *Layer) Path(f Format) string { return filepath.Join(l.dir, "layer."+string(f)) }

// DiffID is the digest of the tar.
func (l *Layer) DiffID() digest.Digest { return l.Blobs[Tar].Digest }

// ErrUnavailable says that this machine lacks what a layer is made from; the
// error's text names it.
var ErrUnavailable = errors.New("unavailable")

// Root is where layers are kept.
func Root() string {
	if dir := os.Getenv("LITHIFY_TEST_CORPUS"); dir != "" {
		return dir
	}
	return "/var/lib/lithify-test-corpus"
}

// Open returns a layer by its name in [Sources], and makes it first if it is not
// there. Processes that want the same layer wait for the one that makes it.
func Open(ctx context.Context, name string) (*Layer, error) {
	s, ok := Sources[name]
	if !ok {
		return nil, fmt.Errorf("corpus has no layer %q", name)
	}
	dir := filepath.Join(Root(), name+"-"+s.key())
	if l, err := load(dir); !errors.Is(err, fs.ErrNotExist) {
		return l, err
	}
	unlock, err := lock(dir + ".lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if l, err := load(dir); !errors.Is(err, fs.ErrNotExist) {
		return l, err
	}
	if err := s.build(ctx, name, dir); err != nil {
		return nil, fmt.Errorf("make layer %s: %w", name, err)
	}
	return load(dir)
}

func load(dir string) (*Layer, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "layer.json"))
	if err != nil {
		return nil, err
	}
	l := &Layer{dir: dir}
	return l, json.Unmarshal(raw, l)
}

// build makes a layer aside and moves it, so that one that is there is whole.
func (s Source) build(ctx context.Context, name, dir string) error {
	tmp, err := os.MkdirTemp(Root(), name+".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	l := &Layer{Name: name, dir: tmp, Blobs: map[Format]Blob{}}
	if l.Made, err = s.fill(ctx, tmp, l.Path(Tar)); err != nil {
		return err
	}
	if err := l.compress(ctx); err != nil {
		return err
	}
	for _, f := range Formats {
		if l.Blobs[f], err = describe(l.Path(f)); err != nil {
			return err
		}
	}
	raw, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, "layer.json"), raw, 0o644); err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	return os.Rename(tmp, dir)
}

func (l *Layer) compress(ctx context.Context) error {
	return errors.Join(
		command(ctx, "", "sh", "-c", `exec gzip -6 -n -c "$1" >"$2"`, "sh", l.Path(Tar), l.Path(Gzip)),
		command(ctx, "", "zstd", "-q", "-3", "-T1", "-o", l.Path(Zstd), l.Path(Tar)),
	)
}

func describe(path string) (Blob, error) {
	f, err := os.Open(path)
	if err != nil {
		return Blob{}, err
	}
	defer f.Close()
	d := digest.Canonical.Digester()
	n, err := io.Copy(d.Hash(), f)
	return Blob{Digest: d.Digest(), Size: n}, err
}

// lock takes a file lock, which dies with the process.
func lock(path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}
