package run

import (
	"errors"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/convert"
	"github.com/lithify/lithify/convert/registry"
	"github.com/lithify/lithify/erofs"
	"github.com/lithify/lithify/jobs"
)

// Classify decides what another attempt is worth.
func Classify(err error) error {
	var from *registry.Error
	switch {
	case err == nil:
		return nil
	case convert.Permanent(err):
		return jobs.Permanent(err)
	case errors.Is(err, convert.ErrTemp):
		return jobs.Resource(err)
	case errors.As(err, &from) && from.RetryAfter > 0:
		return jobs.RetryAfter(from.RetryAfter, err)
	}
	return err
}

// ClassifyHere is Classify for what is done with a container of this machine: one that is not
// there, or cannot be used as it is, will not change by itself.
func ClassifyHere(err error) error {
	if errdefs.IsFailedPrecondition(err) || errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) || errdefs.IsNotImplemented(err) || errdefs.IsAlreadyExists(err) {
		return jobs.Permanent(err)
	}
	return Classify(err)
}

// kinded is an error with a kind that its own type does not tell.
type kinded struct {
	error
	kind error
}

func (e kinded) Unwrap() []error { return []error{e.error, e.kind} }

// WithKind gives err its kind where convert and erofs leave it to their types. A
// conflict's own, a failed precondition, will not do: a certificate that nobody
// trusts is one, too.
func WithKind(err error) error {
	var conflict *convert.ConflictError
	var entry *erofs.EntryError
	var limit *erofs.LimitError
	switch {
	case errors.As(err, &conflict):
		return kinded{err, errdefs.ErrAborted}
	case errors.As(err, &entry), errors.As(err, &limit):
		return kinded{err, errdefs.ErrInvalidArgument}
	}
	return err
}
