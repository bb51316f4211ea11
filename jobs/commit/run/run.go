// Package run handles jobs of the kind commit. `lithify commit` calls the same handler
// without a queue.
package run

import (
	"context"
	"errors"
	"time"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/commit"
	"github.com/lithify/lithify/convert/pack"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/jobs"
	commitjob "github.com/lithify/lithify/jobs/commit"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
)

// Handler commits containers of a containerd on this machine. How images are published
// and converted is Convert's to say.
type Handler struct {
	Convert convertrun.Handler
	Address string // of containerd; default stack.DefaultAddress
	// Frozen hears how long a container was paused.
	Frozen func(time.Duration)
}

// Register makes h the handler of its kind, on a worker that has a containerd.
func (h Handler) Register(m *jobs.Mux) {
	jobs.Handle(m, func(ctx context.Context, a commitjob.Args) (any, error) {
		if err := h.Convert.CheckFiles(a, a.Target); err != nil {
			return nil, jobs.Permanent(err)
		}
		r, err := h.Run(ctx, a)
		return r, convertrun.ClassifyHere(err)
	})
}

// Run makes an image of one container. Its errors have an errdefs kind each, as those
// of convert's Run.
func (h Handler) Run(ctx context.Context, a commitjob.Args) (*convert.Result, error) {
	r, err := h.run(ctx, a)
	return r, convertrun.WithKind(err)
}

func (h Handler) run(ctx context.Context, a commitjob.Args) (_ *convert.Result, err error) {
	dst, opts, err := h.Convert.Output(ctx, a.Output)
	if err != nil {
		return nil, err
	}
	d, err := stack.Dial(h.Address, a.Namespace)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	c, err := d.Container(ctx, a.Container)
	if err != nil {
		return nil, err
	}
	return commit.Container(ctx, c, dst, commit.Options{
		Message:     a.Message,
		Author:      a.Author,
		Changes:     a.Changes,
		Compression: pack.Compression(a.Compression),
		Exclude:     a.Exclude,
		Running:     a.Running,
		Epoch:       a.Epoch,
		Fallback:    func(image string) (convert.Source, error) { return h.Convert.Open(image, a.Insecure) },
		Frozen:      h.Frozen,
		Convert:     opts,
	})
}
