package verify

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/lithify/lithify/convert/stack"
)

// rootName is the beginning of the names of directories made here.
const rootName = "lithify-verify-"

// tempRoot makes a directory for a stack, which remove takes away.
func tempRoot(ctx context.Context, log *slog.Logger) (dir string, remove func() error, err error) {
	sweep(ctx, log)
	if dir, err = os.MkdirTemp("", rootName); err != nil {
		return "", nil, err
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}

// sweep removes the directories of calls that were killed, in which images are still
// mounted. What it cannot remove is in nobody's way.
func sweep(ctx context.Context, log *slog.Logger) {
	left, err := filepath.Glob(filepath.Join(os.TempDir(), rootName+"*"))
	for _, dir := range left {
		if !stack.Abandoned(dir) {
			continue
		}
		s, oerr := stack.Open(ctx, dir, slog.New(slog.DiscardHandler)) // which cleans it up
		if oerr == nil {
			oerr = errors.Join(s.Close(), os.RemoveAll(dir))
		}
		log.DebugContext(ctx, "directory of a killed process removed", "dir", dir, "error", oerr)
		err = errors.Join(err, oerr)
	}
	if err != nil {
		log.WarnContext(ctx, "directories of killed processes are left", "error", err)
	}
}
