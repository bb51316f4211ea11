package jobs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Args is what a job of one kind needs to run. Its JSON is the wire format; no
// field may hold a secret, only a reference to one.
type Args interface {
	Kind() string    // constant, of a-z and 0-9
	Validate() error // what can be known without I/O
}

// Pure is implemented by args of kinds whose result is a function of what Identity
// gives: a value that encodes as JSON, every reference in it a digest. Submissions
// of equal identity are one job. What else the args say tells where to find the
// same thing, and is that of whoever asked first.
type Pure interface {
	Args
	Identity() any
}

// Job is the immutable part of a job, as submitted.
type Job struct {
	ID          ID                `json:"id"`
	Kind        string            `json:"kind"`
	Class       Class             `json:"class"`
	Args        json.RawMessage   `json:"args"`
	ArgsDigest  string            `json:"args_digest"` // over kind and args: tells a repeated submission from another use of its key
	Created     time.Time         `json:"created"`
	Deadline    time.Time         `json:"deadline"`
	MaxAttempts int               `json:"max_attempts"`
	Priority    Priority          `json:"priority,omitempty"`
	Tenant      string            `json:"tenant,omitempty"`
	Hosts       []string          `json:"hosts,omitempty"`     // registries that it burdens
	NotBefore   time.Time         `json:"not_before,omitzero"` // it is not to run earlier
	Parent      ID                `json:"parent,omitempty"`    // the job that waits for it; none: somebody asked for it directly
	Submitter   string            `json:"submitter,omitempty"`
	Trace       map[string]string `json:"trace,omitempty"` // W3C context of the submission
}

const (
	// DefaultTimeout bounds a job from submission to its end. A day outlasts any
	// single image and still clears what nobody will ever serve.
	DefaultTimeout = 24 * time.Hour
	// DefaultMaxAttempts lets a job survive a dead worker and three flaky registries.
	DefaultMaxAttempts = 5
)

// Options are the optional parts of a submission; the zero value works.
type Options struct {
	Class          Class         `json:"class,omitzero"`         // default: kind/any/any/any; of Bound args: their node's
	IdempotencyKey string        `json:"-"`                      // submissions under one key are one job; a pure kind needs none
	Timeout        time.Duration `json:"timeout,omitempty"`      // from now to the deadline; default DefaultTimeout
	MaxAttempts    int           `json:"max_attempts,omitempty"` // default DefaultMaxAttempts
	Priority       Priority      `json:"priority,omitempty"`     // default Bulk
	Tenant         string        `json:"tenant,omitempty"`       // whose share of the pool it uses; default DefaultTenant
	NotBefore      time.Time     `json:"-"`                      // it does not run earlier; the timeout counts from then
	Submitter      string        `json:"submitter,omitempty"`    // who asks, for people to read
}

// New makes a job of args that pass Validate.
func New(a Args, o Options) (Job, error) {
	if !isToken(a.Kind()) {
		return Job{}, fmt.Errorf("kind %q is not made of a-z and 0-9", a.Kind())
	}
	if err := a.Validate(); err != nil {
		return Job{}, fmt.Errorf("%s: %w", a.Kind(), err)
	}
	if err := bind(a, &o); err != nil {
		return Job{}, err
	}
	raw, err := json.Marshal(a)
	if err != nil {
		return Job{}, fmt.Errorf("encode %s: %w", a.Kind(), err)
	}
	j, err := newJob(a.Kind(), raw, o)
	if h, ok := a.(Hosted); ok {
		j.Hosts = h.Hosts()
	}
	if pure, ok := a.(Pure); ok && err == nil {
		identity, err := json.Marshal(pure.Identity())
		if err != nil {
			return Job{}, fmt.Errorf("encode %s: %w", a.Kind(), err)
		}
		j.ArgsDigest = argsDigest(a.Kind(), identity)
		j.ID = ID(j.Kind + "-" + j.ArgsDigest)
	}
	return j, err
}

// newJob makes a job of args that were checked.
func newJob(kind string, args json.RawMessage, o Options) (Job, error) {
	if o.Class == (Class{}) {
		o.Class = Class{kind, Any, Any, Any}
	}
	if o.Class.Kind != kind {
		return Job{}, fmt.Errorf("class %s is not of kind %s", o.Class, kind)
	}
	if _, err := ParseClass(o.Class.String()); err != nil {
		return Job{}, err
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxAttempts <= 0 {
		o.MaxAttempts = DefaultMaxAttempts
	}
	priority, err := ParsePriority(string(o.Priority))
	if err != nil {
		return Job{}, err
	}
	if o.Tenant == "" {
		o.Tenant = DefaultTenant
	}
	if err := CheckTenant(o.Tenant); err != nil {
		return Job{}, err
	}
	now := time.Now().UTC()
	begin := now
	if o.NotBefore.After(now) {
		begin = o.NotBefore.UTC()
	}
	j := Job{Kind: kind, Class: o.Class, Args: args, ArgsDigest: argsDigest(kind, args), Created: now, Deadline: begin.Add(o.Timeout),
		MaxAttempts: o.MaxAttempts, Priority: priority, Tenant: o.Tenant, Submitter: o.Submitter}
	if begin != now {
		j.NotBefore = begin
	}
	if o.IdempotencyKey != "" {
		j.ID = keyedID(j.Kind, o.IdempotencyKey)
	} else {
		j.ID = uniqueID(j.Kind)
	}
	return j, nil
}

// DecodeJob reads a stored job. What it returns is well formed; the args are
// not looked at.
func DecodeJob(b []byte) (Job, error) {
	var j Job
	if err := json.Unmarshal(b, &j); err != nil {
		return Job{}, fmt.Errorf("decode job: %w", err)
	}
	if _, err := ParseID(string(j.ID)); err != nil {
		return Job{}, err
	}
	if j.Kind == "" || j.Class.Kind != j.Kind {
		return Job{}, fmt.Errorf("job %s: class %s is not of kind %q", j.ID, j.Class, j.Kind)
	}
	return j, nil
}

// DecodeArgs reads and validates the args of a job. An unknown field is an
// error: an option that this binary does not know must not be dropped in silence.
func DecodeArgs[A Args](raw json.RawMessage) (A, error) {
	var a A
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&a); err != nil {
		return a, fmt.Errorf("decode %s: %w", a.Kind(), err)
	}
	if _, err := d.Token(); err != io.EOF {
		return a, fmt.Errorf("decode %s: data after the args", a.Kind())
	}
	if err := a.Validate(); err != nil {
		return a, fmt.Errorf("%s: %w", a.Kind(), err)
	}
	return a, nil
}

// Validator is DecodeArgs for its error only: the scheduler checks args of
// kinds whose handlers it does not link.
func Validator[A Args]() func(json.RawMessage) error {
	return func(raw json.RawMessage) error { _, err := DecodeArgs[A](raw); return err }
}
