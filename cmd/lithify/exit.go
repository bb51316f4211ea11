package main

import (
	"context"
	"errors"

	"github.com/containerd/errdefs"
	"github.com/lithify/lithify/convert"
)

const exitCodes = `Exit codes:
  0    done
  1    something else went wrong
  2    wrong flags or arguments
  3    the image is refused: it cannot be converted as it is
  4    the source or target is not there, or access is denied
  5    a registry or the pool cannot be reached; try again later
  6    the tag was moved by somebody else, or must not be moved
  130  interrupted`

// errSilent ends a command with an exit code when all has been said already.
var errSilent = errors.New("")

type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func exitCode(ctx context.Context, err error) int {
	var usage usageError
	var failed *jobFailed
	var conflict *convert.ConflictError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		return 2
	case ctx.Err() != nil:
		return 130
	case errors.As(err, &failed):
		return failed.exitCode()
	case errors.Is(err, convert.ErrTagMoved), errors.As(err, &conflict):
		return 6
	case errors.Is(err, convert.ErrNotFound), errdefs.IsNotFound(err), errdefs.IsUnauthorized(err), errdefs.IsPermissionDenied(err):
		return 4
	case errdefs.IsUnavailable(err), errdefs.IsDeadlineExceeded(err), errdefs.IsResourceExhausted(err):
		return 5
	case convert.Permanent(err) && !errdefs.IsFailedPrecondition(err):
		return 3
	}
	return 1
}
