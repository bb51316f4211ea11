package jobs

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"
)

// ErrorKind is which of containerd's errdefs an error is, as a word of the wire:
// a failure is read by processes that never held the error. The words are those
// of gRPC's codes in lower case, and two that only errdefs has. They never
// change; a reader takes one that it does not know for [KindUnknown].
type ErrorKind string

const (
	KindAborted            ErrorKind = "aborted"
	KindNotFound           ErrorKind = "not_found"
	KindUnauthenticated    ErrorKind = "unauthenticated"
	KindPermissionDenied   ErrorKind = "permission_denied"
	KindUnavailable        ErrorKind = "unavailable"
	KindDeadlineExceeded   ErrorKind = "deadline_exceeded" // context.DeadlineExceeded
	KindResourceExhausted  ErrorKind = "resource_exhausted"
	KindFailedPrecondition ErrorKind = "failed_precondition"
	KindInvalidArgument    ErrorKind = "invalid_argument"
	KindAlreadyExists      ErrorKind = "already_exists"
	KindConflict           ErrorKind = "conflict"
	KindNotModified        ErrorKind = "not_modified"
	KindOutOfRange         ErrorKind = "out_of_range"
	KindUnimplemented      ErrorKind = "unimplemented" // errdefs.ErrNotImplemented
	KindInternal           ErrorKind = "internal"
	KindDataLoss           ErrorKind = "data_loss"
	KindCanceled           ErrorKind = "canceled" // context.Canceled
	KindUnknown            ErrorKind = "unknown"  // errdefs.ErrUnknown, and every error of no kind
)

// kinds are in the order in which KindOf looks: an error may be of several. What
// a person can do something about comes before "try again", and a precondition
// before the argument that it makes invalid.
var kinds = []struct {
	kind ErrorKind
	err  error
}{
	{KindAborted, errdefs.ErrAborted},
	{KindNotFound, errdefs.ErrNotFound},
	{KindUnauthenticated, errdefs.ErrUnauthenticated},
	{KindPermissionDenied, errdefs.ErrPermissionDenied},
	{KindUnavailable, errdefs.ErrUnavailable},
	{KindDeadlineExceeded, context.DeadlineExceeded},
	{KindResourceExhausted, errdefs.ErrResourceExhausted},
	{KindFailedPrecondition, errdefs.ErrFailedPrecondition},
	{KindInvalidArgument, errdefs.ErrInvalidArgument},
	{KindAlreadyExists, errdefs.ErrAlreadyExists},
	{KindConflict, errdefs.ErrConflict},
	{KindNotModified, errdefs.ErrNotModified},
	{KindOutOfRange, errdefs.ErrOutOfRange},
	{KindUnimplemented, errdefs.ErrNotImplemented},
	{KindInternal, errdefs.ErrInternal},
	{KindDataLoss, errdefs.ErrDataLoss},
	{KindCanceled, context.Canceled},
}

// KindOf is the kind of err, [KindUnknown] if it has none. Of a [Failure] it is
// the kind of the error that the failure was made of.
func KindOf(err error) ErrorKind {
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.kind
		}
	}
	return KindUnknown
}

// Unwrap gives the errdefs error that the failure's kind stands for, so that
// errdefs.IsNotFound and its like answer as they did where the attempt failed. It
// is nil for [KindUnknown], a word of a later version, and a record of an earlier.
func (f *Failure) Unwrap() error {
	for _, k := range kinds {
		if k.kind == f.Kind {
			return k.err
		}
	}
	return nil
}

// Error is the message of the error that the failure was made of.
func (f *Failure) Error() string { return f.Message }
