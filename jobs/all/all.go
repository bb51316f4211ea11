// Package all lists every job kind.
package all

import (
	"encoding/json"
	"fmt"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/commit"
	"github.com/lithify/lithify/jobs/convert"
	"github.com/lithify/lithify/jobs/layer"
)

// Validators check the args of a job by its kind.
func Validators() map[string]func(json.RawMessage) error {
	return map[string]func(json.RawMessage) error{
		commit.Kind:  jobs.Validator[commit.Args](),
		convert.Kind: jobs.Validator[convert.Args](),
		layer.Kind:   jobs.Validator[layer.Args](),
	}
}

// Children are the kinds of the jobs that one of a kind submits and waits for.
func Children(kind string) []string {
	if kind == convert.Kind {
		return []string{layer.Kind}
	}
	return nil
}

// Bound reports whether one node alone can run a job of the kind.
func Bound(kind string) bool { return kind == commit.Kind }

// Summary is a job in a few words for people; of a kind that this binary does
// not know, it is the kind.
func Summary(kind string, args json.RawMessage) string {
	switch kind {
	case commit.Kind:
		return summary[commit.Args](kind, args)
	case convert.Kind:
		return summary[convert.Args](kind, args)
	case layer.Kind:
		return summary[layer.Args](kind, args)
	}
	return kind
}

func summary[A interface {
	jobs.Args
	fmt.Stringer
}](kind string, raw json.RawMessage) string {
	a, err := jobs.DecodeArgs[A](raw)
	if err != nil {
		return kind
	}
	return a.String()
}
