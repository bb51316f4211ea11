package convert

import (
	"context"
	"io"
	"log/slog"
	"os"

	"github.com/lithify/lithify/erofs"
)

// PutCIM enters a block CIM, which only Windows makes, of a layer that registries Seen have.
func PutCIM(ctx context.Context, l *Ledger, from Target, job LayerJob, cim *CIMLayer, seen ...string) error {
	return l.put(ctx, from, record{Job: job, CIM: cim, Seen: seen}, func(r io.Reader) io.Reader { return r })
}

// CIMTar is what hcsshim, which is on Windows only, reads of a layer.
func CIMTar(ctx context.Context, tar io.Reader, opts Options) (r io.Reader, end func()) {
	t := (&conversion{opts: opts}).cimTar(ctx, tar)
	return t, func() { t.end() }
}

// CIMDir makes a directory of block CIMs in temp. kill lets go of it as a process that is killed.
func CIMDir(temp string, log *slog.Logger) (path string, kill func() error, drop func(context.Context), err error) {
	d, err := newCIMDir(temp)
	if err != nil {
		return "", nil, nil, err
	}
	return d.path, d.mark.Close, func(ctx context.Context) { (&conversion{log: log}).drop(ctx, d) }, nil
}

// WithWritten has f called with each layer's file before it is verified.
func WithWritten(o Options, f func(*os.File, *erofs.Layer)) Options {
	o.written = f
	return o
}
