// Package all lists every job kind.
package all

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/build"
	"github.com/lithify/lithify/jobs/checkpoint"
	"github.com/lithify/lithify/jobs/commit"
	"github.com/lithify/lithify/jobs/convert"
	"github.com/lithify/lithify/jobs/layer"
	"github.com/lithify/lithify/jobs/prune"
	"github.com/lithify/lithify/jobs/remove"
	"github.com/lithify/lithify/jobs/restore"
	"github.com/lithify/lithify/jobs/rollout"
)

var kinds = map[string]kind{
	build.Kind:      of[build.Args](build.Kind, convert.Kind),
	checkpoint.Kind: of[checkpoint.Args](),
	commit.Kind:     of[commit.Args](),
	convert.Kind:    of[convert.Args](layer.Kind),
	layer.Kind:      of[layer.Args](),
	prune.Kind:      of[prune.Args](),
	remove.Kind:     of[remove.Args](),
	restore.Kind:    of[restore.Args](),
	rollout.Kind:    of[rollout.Args](restore.Kind, remove.Kind),
}

// kind is what is known of the jobs of one kind by their args alone.
type kind struct {
	decode   func(json.RawMessage) (args, error)
	children []string // kinds of the jobs that one submits and waits for
	bound    bool     // one node alone can run a job
}

// args of each kind are also a job in a few words.
type args interface {
	jobs.Args
	fmt.Stringer
}

func of[A args](children ...string) kind {
	_, bound := any(*new(A)).(jobs.Bound)
	return kind{func(raw json.RawMessage) (args, error) { return jobs.DecodeArgs[A](raw) }, children, bound}
}

// Validators check the args of a job by its kind.
func Validators() map[string]func(json.RawMessage) error {
	m := map[string]func(json.RawMessage) error{}
	for name, k := range kinds {
		m[name] = func(raw json.RawMessage) error { _, err := k.decode(raw); return err }
	}
	return m
}

// Decode reads and validates the args of a job. What is wrong with them, or a kind that
// this binary does not know, is errdefs.ErrInvalidArgument.
func Decode(kind string, raw json.RawMessage) (jobs.Args, error) {
	k, ok := kinds[kind]
	if !ok {
		return nil, fmt.Errorf("no jobs of kind %q are known: %w", kind, errdefs.ErrInvalidArgument)
	}
	a, err := k.decode(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return a, nil
}

// Children are the kinds of the jobs that one of a kind submits and waits for.
func Children(kind string) []string { return slices.Clone(kinds[kind].children) }

// Bound reports whether one node alone can run a job of the kind.
func Bound(kind string) bool { return kinds[kind].bound }

// Summary is a job in a few words for people; of a kind that this binary does
// not know, it is the kind.
func Summary(kind string, raw json.RawMessage) string {
	k, ok := kinds[kind]
	if !ok {
		return kind
	}
	a, err := k.decode(raw)
	if err != nil {
		return kind
	}
	return a.String()
}
