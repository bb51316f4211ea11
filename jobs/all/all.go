// Package all lists every job kind.
package all

import (
	"encoding/json"

	"github.com/lithify/lithify/jobs"
	"github.com/lithify/lithify/jobs/convert"
)

// Validators check the args of a job by its kind.
func Validators() map[string]func(json.RawMessage) error {
	return map[string]func(json.RawMessage) error{
		convert.Kind: jobs.Validator[convert.Args](),
	}
}
