package convert

import (
	"context"
	"io"
)

// PutCIM enters a block CIM, which only Windows makes, of a layer that registries Seen have.
func PutCIM(ctx context.Context, l *Ledger, from Target, job LayerJob, cim *CIMLayer, seen ...string) error {
	return l.put(ctx, from, record{Job: job, CIM: cim, Seen: seen}, func(r io.Reader) io.Reader { return r })
}
