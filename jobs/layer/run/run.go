// Package run handles jobs of the kind layer, which are pieces of those of the kind
// convert and need what those need.
package run

import (
	"context"

	"github.com/lithify/lithify/cimfs"
	"github.com/lithify/lithify/jobs"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	layerjob "github.com/lithify/lithify/jobs/layer"
)

// Classes are those that this machine serves beside those of any: layers of Windows become
// block CIMs where Microsoft's library is. why says what it lacks.
func Classes() (cs []jobs.Class, why error) {
	if _, err := cimfs.Library(); err != nil {
		return nil, err
	}
	return []jobs.Class{layerjob.BlockCIM}, nil
}

// Register makes h the handler of the kind. Without a key to sign what it enters in
// the ledger a worker takes no such jobs.
func Register(m *jobs.Mux, h convertrun.Handler) {
	if h.SigningKey == nil {
		return
	}
	jobs.Handle(m, func(ctx context.Context, a layerjob.Args) (any, error) {
		r, err := h.Layer(ctx, a)
		return r, convertrun.Classify(err)
	})
}
