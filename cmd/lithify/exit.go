package main

import (
	"context"
	"errors"
	"io/fs"

	"github.com/lithify/lithify/jobs"
)

const exitCodes = `Exit codes:
  0    done
  1    something else went wrong
  2    wrong flags or arguments
  3    the image is refused: it cannot be converted, or built, as it is, or its
       variant is not what it was made from
  4    the source, the target or a file is not there, or access is denied
  5    a registry or the pool cannot be reached; try again later
  6    the tag was moved by somebody else, or must not be moved
  130  interrupted

With --output json the last line on stderr is the error as an object:
  {"error": "...", "code": 4, "kind": "not_found"}
code is the exit code; kind is left out where none fits (go doc
github.com/lithify/lithify/jobs.ErrorKind lists them).`

type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func exitCode(ctx context.Context, err error) int {
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		return 2
	case ctx.Err() != nil:
		return 130
	}
	switch jobs.KindOf(err) {
	case jobs.KindAborted:
		return 6
	case jobs.KindNotFound, jobs.KindUnauthenticated, jobs.KindPermissionDenied:
		return 4
	case jobs.KindUnavailable, jobs.KindDeadlineExceeded, jobs.KindResourceExhausted:
		return 5
	case jobs.KindInvalidArgument:
		return 3
	case jobs.KindUnknown:
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return 4
		}
		return codeWithoutKind(err)
	}
	return 1
}

// codeWithoutKind is for failures of jobs whose record does not tell the kind, or
// tells one that this version does not know: their class has to do.
func codeWithoutKind(err error) int {
	f, ok := errors.AsType[*jobs.Failure](err)
	switch {
	case !ok || f.Kind == jobs.KindUnknown:
		return 1
	case f.Class == jobs.ClassPermanent:
		return 3
	}
	return 5
}
