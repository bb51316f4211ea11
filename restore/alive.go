package restore

import (
	"context"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/lithify/lithify/restore/pages"
)

// quietSlack is what a phase may take beyond its time-out, to take back what it has made.
const quietSlack = 2 * undoTimeout

// quietly has f take as long as the options allow a restore, without a word.
func (r *run) quietly(why string, f func() error) error {
	defer r.opts.Quiet(r.opts.Timeout+quietSlack, why)()
	return f()
}

// heard tells of what is read.
type heard struct {
	io.ReadCloser
	alive func(n int64)
}

func (h heard) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	h.alive(int64(n))
	return n, err
}

// heardPages does so for packs.
type heardPages struct {
	pages.Source
	alive func(n int64)
}

func (h heardPages) FetchRange(ctx context.Context, desc ocispec.Descriptor, off, n int64) (io.ReadCloser, error) {
	r, err := h.Source.FetchRange(ctx, desc, off, n)
	if err != nil {
		return nil, err
	}
	return heard{r, h.alive}, nil
}
