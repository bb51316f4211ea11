package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/convert"
)

// documents are what a registry said of a checkpoint image: its manifest, and what is attached to
// that, signatures among it. As JSON they lie beside what was unpacked of it. Nothing in them is
// believed for lying there: the manifest has to have the digest that a job names, and a signature is
// looked at each time.
type documents struct {
	Root      ocispec.Descriptor                     `json:"root"`
	Content   map[digest.Digest][]byte               `json:"content"`
	Referrers map[digest.Digest][]ocispec.Descriptor `json:"referrers,omitempty"`
	// Files is the sum of the unpacked checkpoint, as sumOf has it.
	Files digest.Digest `json:"files"`
}

// write replaces the file by one that is whole.
func (d documents) write(file string) (err error) {
	raw, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".new-")
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// localSource gives documents in the name of where they came from.
type localSource struct {
	name string
	documents
}

// Name implements convert.Source.
func (s localSource) Name() string { return s.name }

// Root implements convert.Source.
func (s localSource) Root(context.Context) (ocispec.Descriptor, error) { return s.documents.Root, nil }

// Fetch implements convert.Source.
func (s localSource) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	raw, ok := s.Content[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("this machine keeps no %s of %s: %w", desc.Digest, s.name, convert.ErrNotFound)
	}
	return io.NopCloser(bytes.NewReader(raw)), nil
}

// Has implements convert.Source. Of layers nothing is kept but what was in them.
func (s localSource) Has(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	return s.Content[desc.Digest] != nil, nil
}

// Referrers implements convert.Source.
func (s localSource) Referrers(_ context.Context, dgst digest.Digest) ([]ocispec.Descriptor, error) {
	return s.documents.Referrers[dgst], nil
}

// recorder notes what its source says. It is for documents alone: all that is fetched it has in
// memory.
type recorder struct {
	convert.Source
	mu   sync.Mutex
	docs documents
}

// Root implements convert.Source.
func (r *recorder) Root(ctx context.Context) (ocispec.Descriptor, error) {
	desc, err := r.Source.Root(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.docs.Root = desc
	return desc, err
}

// Fetch implements convert.Source.
func (r *recorder) Fetch(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	rc, err := r.Source.Fetch(ctx, desc)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(rc, desc.Size+1)) // whoever reads finds it too long
	if err := errors.Join(err, rc.Close()); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.docs.Content == nil {
		r.docs.Content = map[digest.Digest][]byte{}
	}
	r.docs.Content[desc.Digest] = raw
	return io.NopCloser(bytes.NewReader(raw)), nil
}

// Referrers implements convert.Source.
func (r *recorder) Referrers(ctx context.Context, dgst digest.Digest) ([]ocispec.Descriptor, error) {
	descs, err := r.Source.Referrers(ctx, dgst)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.docs.Referrers == nil {
		r.docs.Referrers = map[digest.Digest][]ocispec.Descriptor{}
	}
	r.docs.Referrers[dgst] = descs
	return descs, err
}

// sumOf is the digest of a directory: of the name, mode, size and content of each file in it.
func sumOf(ctx context.Context, dir string) (digest.Digest, error) {
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(file string, e fs.DirEntry, err error) error {
		if err = errors.Join(err, context.Cause(ctx)); err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%q %v %d\n", name, info.Mode(), info.Size())
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		_, err = io.Copy(sum, f)
		return errors.Join(err, f.Close())
	})
	return digest.NewDigest(digest.SHA256, sum), err
}
