package jobs

import (
	"errors"
	"syscall"
	"time"
)

// ErrorClass says what another attempt could change. It is decided once, by the
// handler, and stored with the failure.
type ErrorClass string

const (
	ClassTransient ErrorClass = "transient" // another attempt may succeed; every error not marked otherwise
	ClassPermanent ErrorClass = "permanent" // no attempt will ever succeed
	ClassResource  ErrorClass = "resource"  // this worker cannot, another one may; costs the job no attempt
	ClassPoison    ErrorClass = "poison"    // the handler panicked, or its worker vanished with it
)

type classified struct {
	error
	class ErrorClass
	delay time.Duration
}

func (e *classified) Unwrap() error { return e.error }

// Permanent marks an error that no further attempt can mend: manifest unknown,
// unsupported media type, a refused policy. Permanent(nil) is nil.
func Permanent(err error) error { return mark(err, ClassPermanent, 0) }

// RetryAfter marks an error worth another attempt, not before d has passed:
// a 429 with its Retry-After. One of more than 5 minutes, the longest backoff, costs
// no attempt. RetryAfter(d, nil) is nil.
func RetryAfter(d time.Duration, err error) error { return mark(err, ClassTransient, d) }

// Resource marks a lack of this worker (disk, memory, a device), not of the job.
// Disk full is recognised without it. Resource(nil) is nil.
func Resource(err error) error { return mark(err, ClassResource, 0) }

// Poison marks an error of a handler that did not survive its job.
func Poison(err error) error { return mark(err, ClassPoison, 0) }

func mark(err error, c ErrorClass, d time.Duration) error {
	if err == nil {
		return nil
	}
	return &classified{err, c, d}
}

// ClassOf is the class of err: the outermost mark, else transient.
func ClassOf(err error) ErrorClass {
	if c, ok := errors.AsType[*classified](err); ok {
		return c.class
	}
	if errors.Is(err, syscall.ENOSPC) {
		return ClassResource
	}
	return ClassTransient
}

// RetryDelay is the delay given to [RetryAfter], if err carries one.
func RetryDelay(err error) (time.Duration, bool) {
	c, ok := errors.AsType[*classified](err)
	if !ok || c.delay <= 0 {
		return 0, false
	}
	return c.delay, true
}
