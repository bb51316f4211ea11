package jobs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/lithify/lithify/jobs"
)

// What one process wrote another reads: neither words nor meanings may change.
func TestErrorKinds(t *testing.T) {
	for word, kind := range map[jobs.ErrorKind]error{
		"aborted": errdefs.ErrAborted, "not_found": errdefs.ErrNotFound, "unauthenticated": errdefs.ErrUnauthenticated,
		"permission_denied": errdefs.ErrPermissionDenied, "unavailable": errdefs.ErrUnavailable,
		"deadline_exceeded": context.DeadlineExceeded, "resource_exhausted": errdefs.ErrResourceExhausted,
		"failed_precondition": errdefs.ErrFailedPrecondition, "invalid_argument": errdefs.ErrInvalidArgument,
		"already_exists": errdefs.ErrAlreadyExists, "conflict": errdefs.ErrConflict, "not_modified": errdefs.ErrNotModified,
		"out_of_range": errdefs.ErrOutOfRange, "unimplemented": errdefs.ErrNotImplemented, "internal": errdefs.ErrInternal,
		"data_loss": errdefs.ErrDataLoss, "canceled": context.Canceled,
	} {
		err := jobs.Permanent(fmt.Errorf("pull x: %w", kind))
		if got := jobs.KindOf(err); got != word {
			t.Errorf("%v: got %q, want %q", kind, got, word)
		}
		raw, merr := json.Marshal(jobs.Failure{Class: jobs.ClassOf(err), Kind: jobs.KindOf(err), Message: err.Error()})
		if merr != nil {
			t.Fatal(merr)
		}
		f := new(jobs.Failure)
		if err := json.Unmarshal(raw, f); err != nil {
			t.Fatal(err)
		}
		if !errors.Is(f, kind) || jobs.KindOf(f) != word || f.Error() != err.Error() {
			t.Errorf("%s is read as %v, which is %q", raw, f, jobs.KindOf(f))
		}
	}
}

func TestErrorKindOfNone(t *testing.T) {
	if got := jobs.KindOf(errors.New("base")); got != jobs.KindUnknown {
		t.Errorf("a plain error: %q", got)
	}
	for name, raw := range map[string]string{
		"an older version's": `{"class":"permanent","message":"boom"}`,
		"a newer version's":  `{"class":"permanent","kind":"entangled","message":"boom"}`,
		"a plain error's":    `{"class":"permanent","kind":"unknown","message":"boom"}`,
	} {
		f := new(jobs.Failure)
		if err := json.Unmarshal([]byte(raw), f); err != nil || f.Unwrap() != nil || jobs.KindOf(f) != jobs.KindUnknown {
			t.Errorf("%s: %v, %v, %q", name, err, f.Unwrap(), jobs.KindOf(f))
		}
	}
}

// An error of several kinds has the one that somebody can do something about.
func TestErrorKindOfSeveral(t *testing.T) {
	for want, err := range map[jobs.ErrorKind]error{
		jobs.KindNotFound:           errors.Join(errdefs.ErrUnavailable, errdefs.ErrNotFound),
		jobs.KindAborted:            errors.Join(errdefs.ErrFailedPrecondition, errdefs.ErrAborted),
		jobs.KindFailedPrecondition: errors.Join(errdefs.ErrInvalidArgument, errdefs.ErrFailedPrecondition),
	} {
		if got := jobs.KindOf(err); got != want {
			t.Errorf("%v: got %q, want %q", err, got, want)
		}
	}
}
