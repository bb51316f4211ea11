// Package run lists the handler of every job kind.
package run

import (
	"github.com/lithify/lithify/jobs"
	convertrun "github.com/lithify/lithify/jobs/convert/run"
	layerrun "github.com/lithify/lithify/jobs/layer/run"
)

// Handlers are the engines of a worker, one a kind.
type Handlers struct {
	Convert convertrun.Handler
}

// Mux gives each kind its handler.
func (h Handlers) Mux() *jobs.Mux {
	m := &jobs.Mux{}
	h.Convert.Spread = true
	h.Convert.Register(m)
	layerrun.Register(m, h.Convert)
	return m
}
