//go:build !unix

package corpus

import (
	"os"

	"github.com/containerd/errdefs"
)

func flock(*os.File) error { return errdefs.ErrNotImplemented }
