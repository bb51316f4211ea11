package restore

import (
	"errors"
	"time"
)

// Check says when a container counts as restored: package restore/health, whose fields
// these are.
type Check struct {
	Exec      string        `json:"exec,omitempty"`
	TCP       string        `json:"tcp,omitempty"`
	HTTP      string        `json:"http,omitempty"`
	Interval  time.Duration `json:"interval,omitempty"`
	Timeout   time.Duration `json:"timeout,omitempty"`
	Within    time.Duration `json:"within,omitempty"`
	Stable    time.Duration `json:"stable,omitempty"`
	Container string        `json:"container,omitempty"`
}

// Took is how long it may take, as far as it is said.
func (c *Check) Took() time.Duration {
	if c == nil {
		return 0
	}
	return c.Within + c.Stable
}

// of is the check of a container of a set.
func (c *Check) of(container string) *Check {
	if c == nil || c.Container == "" || c.Container == container {
		return c
	}
	other := *c
	other.Exec, other.TCP, other.HTTP = "", "", ""
	return &other
}

var errCheck = errors.New("a check's times are not below zero")

func (c *Check) validate() error {
	if c != nil && min(c.Interval, c.Timeout, c.Within, c.Stable) < 0 {
		return errCheck
	}
	return nil
}
