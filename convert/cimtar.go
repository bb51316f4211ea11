package convert

import (
	"cmp"
	"context"
	"io"
	"time"

	"github.com/lithify/lithify/erofs"
)

// What hcsshim may take between two reads of a layer. It waits until other CIMs are written, a
// few at a time, and seals its own when the tar has ended: each is as long as a layer is large,
// and nothing is heard meanwhile.
const (
	waitBound = 2 * time.Hour
	sealBound = time.Hour
)

// quiet declares that nothing is heard, until end is called.
func (c *conversion) quiet(ctx context.Context, bound time.Duration, why string) (end func()) {
	if c.opts.Quiet == nil {
		return func() {}
	}
	return c.opts.Quiet(ctx, bound, why)
}

// cimTar is a layer's tar on its way to hcsshim, within the limit of its size. Where nothing is
// read that is a quiet phase.
type cimTar struct {
	tar   io.Reader
	limit int64
	n     int64
	quiet func(bound time.Duration, why string)
	end   func() // of the phase that lasts
}

// cimTar begins the phase before the first read. The caller ends the last one.
func (c *conversion) cimTar(ctx context.Context, tar io.Reader) *cimTar {
	t := &cimTar{tar: tar, limit: cmp.Or(c.opts.Limits.Bytes, erofs.DefaultLimits.Bytes)}
	t.quiet = func(bound time.Duration, why string) { t.end = c.quiet(ctx, bound, why) }
	t.quiet(waitBound, "other block CIMs are written")
	return t
}

func (t *cimTar) Read(b []byte) (int, error) {
	t.end()
	defer t.quiet(sealBound, "the block CIM is written")
	n, err := t.tar.Read(b)
	if t.n += int64(n); t.n > t.limit {
		return 0, &erofs.LimitError{Limit: "bytes", Max: t.limit, Flag: "--max-bytes"}
	}
	return n, err
}
