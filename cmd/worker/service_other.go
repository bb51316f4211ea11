//go:build !windows

package main

import (
	"fmt"

	"github.com/containerd/errdefs"
)

const serviceUsage = ""

func service([]string) error {
	return fmt.Errorf("services of Windows are on Windows only; deploy/systemd has a unit: %w", errdefs.ErrNotImplemented)
}
