package jobs

import (
	"encoding/json"
	"errors"
)

// Template is a job that can be made any number of times: what a timetable submits.
// Its JSON is a wire format.
type Template struct {
	Kind    string          `json:"kind"`
	Args    json.RawMessage `json:"args"`
	Hosts   []string        `json:"hosts,omitempty"`
	Options Options         `json:"options"`
}

// NewTemplate checks args and options as New does. Jobs of a pure kind are one job
// however often they are made, so there is no template of them.
func NewTemplate(a Args, o Options) (Template, error) {
	if _, ok := a.(Pure); ok {
		return Template{}, errors.New("a job of a pure kind is made once")
	}
	j, err := New(a, o)
	if err != nil {
		return Template{}, err
	}
	return Template{Kind: j.Kind, Args: j.Args, Hosts: j.Hosts, Options: o}, nil
}

// Job makes the job. Every job of one idempotency key is the same one.
func (t Template) Job(idempotencyKey string) (Job, error) {
	o := t.Options
	o.IdempotencyKey = idempotencyKey
	j, err := newJob(t.Kind, t.Args, o)
	j.Hosts = t.Hosts
	return j, err
}
