//go:build !linux

package build

import (
	"fmt"
	"os"
	"os/exec"

	"github.com/containerd/errdefs"
)

var interrupt = os.Interrupt

func command(string, ...string) (*exec.Cmd, error) {
	return nil, fmt.Errorf("a buildkitd of our own needs Linux; name one that runs with --buildkit: %w", errdefs.ErrNotImplemented)
}

func removeCgroups(string) {}

func pinThread() (release func()) { return func() {} }
