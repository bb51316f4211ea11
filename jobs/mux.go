package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Handler runs one attempt of a job. It may be called again after any error or
// crash, and twice at the same time when a worker lost its claim without
// knowing: its effects must be idempotent. It returns when ctx is done. The
// result is stored as JSON; it names what was made, it does not hold it.
type Handler[A Args] func(ctx context.Context, a A) (any, error)

// Mux finds the handler of a kind. Fill it before use; the zero value is empty.
type Mux struct {
	handlers map[string]func(context.Context, json.RawMessage) (any, error)
	bound    map[string]bool
}

// Handle registers h for A's kind. It panics if the kind has a handler.
func Handle[A Args](m *Mux, h Handler[A]) {
	var zero A
	kind := zero.Kind()
	if _, ok := m.handlers[kind]; ok {
		panic("jobs: two handlers for kind " + kind)
	}
	if m.handlers == nil {
		m.handlers = make(map[string]func(context.Context, json.RawMessage) (any, error))
		m.bound = map[string]bool{}
	}
	_, m.bound[kind] = Args(zero).(Bound)
	m.handlers[kind] = func(ctx context.Context, raw json.RawMessage) (any, error) {
		a, err := DecodeArgs[A](raw)
		if err != nil {
			return nil, Permanent(err)
		}
		return h(ctx, a)
	}
}

// Kinds are the kinds that have a handler, sorted.
func (m *Mux) Kinds() []string { return slices.Sorted(maps.Keys(m.handlers)) }

// Bound reports whether the jobs of a kind are [Bound] to a node.
func (m *Mux) Bound(kind string) bool { return m.bound[kind] }

// Run decodes the args of a job of kind, runs its handler and encodes the
// result. Args that do not decode and an unknown kind are permanent errors.
func (m *Mux) Run(ctx context.Context, kind string, args json.RawMessage) (json.RawMessage, error) {
	h, ok := m.handlers[kind]
	if !ok {
		return nil, Permanent(fmt.Errorf("no handler for kind %q", kind))
	}
	result, err := h(ctx, args)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(result)
	if err != nil {
		return nil, Permanent(fmt.Errorf("encode result of %s: %w", kind, err))
	}
	return raw, nil
}
