// Package run handles jobs of the kind checkpoint. `lithify checkpoint` calls the same
// handler without a queue.
package run

import (
	"context"
	"errors"
	"time"

	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/jobs"
	checkpointjob "github.com/lithify/lithify/jobs/checkpoint"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	"github.com/lithify/lithify/restore/checkpoint"
	"github.com/lithify/lithify/restore/encrypt"
)

// Handler checkpoints containers of a containerd on this machine. Convert says how
// registries are reached.
type Handler struct {
	Convert convertrun.Handler
	Address string // of containerd; default stack.DefaultAddress
	// Frozen hears how long a container stood still.
	Frozen func(time.Duration)
}

// dumpBound is how long CRIU may write memory without a word.
const dumpBound = 10 * time.Minute

// Register makes h the handler of its kind, on a worker that has a containerd.
func (h Handler) Register(m *jobs.Mux) {
	jobs.Handle(m, func(ctx context.Context, a checkpointjob.Args) (any, error) {
		if err := h.Convert.CheckFiles(a, a.Target); err != nil {
			return nil, jobs.Permanent(err)
		}
		if len(a.Set) > 0 {
			r, err := h.RunSet(ctx, a)
			return r, convertrun.ClassifyHere(err)
		}
		r, err := h.Run(ctx, a)
		return r, convertrun.ClassifyHere(err)
	})
}

// Run makes a checkpoint image of one container. Its errors have an errdefs kind each.
func (h Handler) Run(ctx context.Context, a checkpointjob.Args) (*checkpoint.Result, error) {
	r, err := run(ctx, h, a, []string{a.Container}, func(cs []*stack.Container, dst convert.Target, o checkpoint.Options) (*checkpoint.Result, error) {
		return checkpoint.Container(ctx, cs[0], dst, o)
	})
	return r, convertrun.WithKind(err)
}

// RunSet makes a set of checkpoints, likewise.
func (h Handler) RunSet(ctx context.Context, a checkpointjob.Args) (*checkpoint.GroupResult, error) {
	r, err := run(ctx, h, a, a.Set, func(cs []*stack.Container, dst convert.Target, o checkpoint.Options) (*checkpoint.GroupResult, error) {
		return checkpoint.Group(ctx, cs, dst, o)
	})
	return r, convertrun.WithKind(err)
}

// run finds the containers and the target, and has f make the checkpoints.
func run[R any](ctx context.Context, h Handler, a checkpointjob.Args, names []string,
	f func([]*stack.Container, convert.Target, checkpoint.Options) (*R, error)) (_ *R, err error) {
	to, err := encrypt.ParseRecipients(a.EncryptTo...)
	if err != nil {
		return nil, err
	}
	dst, err := h.Convert.Create(a.Target, a.Insecure)
	if err != nil {
		return nil, err
	}
	d, err := stack.Dial(h.Address, a.Namespace)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	var cs []*stack.Container
	for _, name := range names {
		c, err := d.Container(ctx, name)
		if err != nil {
			return nil, err
		}
		cs = append(cs, c)
	}
	return f(cs, dst, checkpoint.Options{
		Stop:  a.Stop,
		Split: a.Split,

		TCPEstablished: a.TCPEstablished,
		FileLocks:      a.FileLocks,

		Key:        h.Convert.SigningKey,
		Recipients: to,
		TempDir:    h.Convert.TempDir,
		Fallback:   func(image string) (convert.Source, error) { return h.Convert.Open(image, a.Insecure) },
		Frozen:     h.Frozen,
		Quiet:      func() (end func()) { return jobs.Quiet(ctx, dumpBound, "CRIU writes the container's memory") },
		Progress:   func(n int64) { jobs.Alive(ctx, n) },
	})
}
