package registry

import (
	"context"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// root remembers what a reference named when it was first resolved. An error is
// not remembered.
type root struct {
	turn  chan struct{} // held by who resolves; a mutex that heeds ctx
	known atomic.Pointer[manifest]
}

type manifest struct {
	desc ocispec.Descriptor
	raw  []byte // nil where reading it again costs nothing
}

func newRoot() root { return root{turn: make(chan struct{}, 1)} }

func (r *root) resolve(ctx context.Context, ask func() (ocispec.Descriptor, []byte, error)) (ocispec.Descriptor, error) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return ocispec.Descriptor{}, ctx.Err()
	}
	if m := r.known.Load(); m != nil {
		return m.desc, nil
	}
	desc, raw, err := ask()
	if err == nil {
		r.known.Store(&manifest{desc, raw})
	}
	return desc, err
}

// bytes are the root manifest's, if d is its digest and it was kept.
func (r *root) bytes(d digest.Digest) []byte {
	if m := r.known.Load(); m != nil && m.desc.Digest == d {
		return m.raw
	}
	return nil
}
