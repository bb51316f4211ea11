package convert

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/erofs"
)

// RefusedError says that the image cannot be converted as it is, and that
// trying again will not help. It is an [errdefs.ErrInvalidArgument].
type RefusedError struct {
	What string // the thing refused: a reference, digest or file name
	Why  string // what is wrong with it and, where there is a way, what to do
}

func (e *RefusedError) Error() string { return e.What + ": " + e.Why }

// Is makes a RefusedError an invalid argument for callers that sort errors by
// containerd's kinds.
func (e *RefusedError) Is(target error) bool { return target == errdefs.ErrInvalidArgument }

// ConflictError says that publishing would harm or has met somebody else's work:
// a signature that would no longer hold, a tag that must not be moved. It is an
// [errdefs.ErrFailedPrecondition].
type ConflictError struct {
	What string
	Why  string
}

func (e *ConflictError) Error() string { return e.What + ": " + e.Why }

// Is makes a ConflictError a failed precondition.
func (e *ConflictError) Is(target error) bool { return target == errdefs.ErrFailedPrecondition }

func refused(what any, why string, args ...any) error {
	return &RefusedError{What: fmt.Sprint(what), Why: fmt.Sprintf(why, args...)}
}

// Permanent reports whether another attempt at the same conversion is bound to
// end the same way.
func Permanent(err error) bool {
	var entry *erofs.EntryError
	var limit *erofs.LimitError
	switch {
	case errors.As(err, &entry), errors.As(err, &limit):
		return true
	case errors.Is(err, ErrTagMoved), errors.Is(err, ErrTemp):
		return false
	case errors.Is(err, ErrNotFound):
		return true
	}
	return errdefs.IsInvalidArgument(err) || errdefs.IsFailedPrecondition(err) ||
		errdefs.IsNotFound(err) || errdefs.IsUnauthorized(err) || errdefs.IsPermissionDenied(err) ||
		errdefs.IsNotImplemented(err) // a registry that only reads
}
