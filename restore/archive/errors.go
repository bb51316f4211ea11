package archive

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// EntryError says which part of an archive is refused, and why. Another attempt on the
// same bytes ends the same way: it is an [errdefs.ErrInvalidArgument].
type EntryError struct {
	Name   string // of the entry, as the archive spells it, or of the file that it became
	Reason string // what is wrong and what to do
	Err    error  // what was found, if it was an error
}

func (e *EntryError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("checkpoint entry %q: %s: %v", e.Name, e.Reason, e.Err)
	}
	return fmt.Sprintf("checkpoint entry %q: %s", e.Name, e.Reason)
}

func (e *EntryError) Unwrap() error { return e.Err }

// Is makes an EntryError an invalid argument for callers that sort errors by kinds.
func (e *EntryError) Is(target error) bool { return target == errdefs.ErrInvalidArgument }

// LimitError says that an archive is larger than [Limits] allow. It is an
// [errdefs.ErrInvalidArgument], too.
type LimitError struct {
	Name  string // of the entry at which the limit was passed
	Limit string // what is limited: "bytes", "entries", ...
	Max   int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("checkpoint entry %q passes the limit of %d %s; if the checkpoint is meant to be so large, raise the limit", e.Name, e.Max, e.Limit)
}

// Is makes a LimitError an invalid argument.
func (e *LimitError) Is(target error) bool { return target == errdefs.ErrInvalidArgument }

func refused(name, reason string, args ...any) error {
	return &EntryError{Name: name, Reason: fmt.Sprintf(reason, args...)}
}
