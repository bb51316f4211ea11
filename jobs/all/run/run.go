// Package run lists the handler of every job kind.
package run

import (
	"github.com/lithify/lithify/jobs"
	buildrun "github.com/lithify/lithify/jobs/build/run"
	checkpointrun "github.com/lithify/lithify/jobs/checkpoint/run"
	commitrun "github.com/lithify/lithify/jobs/commit/run"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	layerrun "github.com/lithify/lithify/jobs/layer/run"
	prunerun "github.com/lithify/lithify/jobs/prune/run"
	removerun "github.com/lithify/lithify/jobs/remove/run"
	restorerun "github.com/lithify/lithify/jobs/restore/run"
	rolloutrun "github.com/lithify/lithify/jobs/rollout/run"
)

// Handlers are the engines of a worker, one a kind.
type Handlers struct {
	Convert convertrun.Handler
	// Containerd is where one listens whose containers may be committed and
	// checkpointed; none if empty.
	Containerd string
	// Restore is how checkpoints may be restored in it; nobody does if it is nil.
	Restore *restorerun.Handler
	// Build is how to build; nobody does if it is nil.
	Build *buildrun.Handler
}

// Mux gives each kind its handler.
func (h Handlers) Mux() *jobs.Mux {
	m := &jobs.Mux{}
	h.Convert.Spread = true
	h.Convert.Register(m)
	layerrun.Register(m, h.Convert)
	rolloutrun.Register(m)
	prunerun.Handler{Convert: h.Convert}.Register(m)
	if h.Containerd != "" {
		commitrun.Handler{Convert: h.Convert, Address: h.Containerd}.Register(m)
		checkpointrun.Handler{Convert: h.Convert, Address: h.Containerd}.Register(m)
	}
	if h.Restore != nil {
		restore := *h.Restore
		restore.Convert, restore.Address = h.Convert, h.Containerd
		restore.Register(m)
		removerun.Handler{Address: h.Containerd, Root: restore.Root}.Register(m)
	}
	if h.Build != nil {
		build := *h.Build
		build.Convert = h.Convert
		build.Register(m)
	}
	return m
}
