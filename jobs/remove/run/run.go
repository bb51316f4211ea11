// Package run handles jobs of the kind remove.
package run

import (
	"context"
	"errors"

	"github.com/lithify/lithify/convert/stack"
	"github.com/lithify/lithify/jobs"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	removejob "github.com/lithify/lithify/jobs/remove"
	"github.com/lithify/lithify/restore"
)

// Handler removes containers from a containerd on this machine.
type Handler struct {
	Address string // of containerd; default stack.DefaultAddress
	Root    string // default restore.DefaultRoot
}

// Register makes h the handler of its kind, on a worker that restores.
func (h Handler) Register(m *jobs.Mux) {
	jobs.Handle(m, func(ctx context.Context, a removejob.Args) (any, error) {
		return nil, convertrun.ClassifyHere(h.Run(ctx, a))
	})
}

// Run removes one container. One that is not there, or that another job has made, is
// left alone.
func (h Handler) Run(ctx context.Context, a removejob.Args) (err error) {
	d, err := stack.Dial(h.Address, a.Namespace)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return restore.Remove(ctx, d, restore.Options{Name: a.Name, Job: string(a.Job), Root: h.Root})
}
