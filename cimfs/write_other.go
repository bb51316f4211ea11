//go:build !windows

package cimfs

import (
	"context"
	"fmt"
	"io"
	"os/exec"

	"github.com/containerd/errdefs"
)

var errNotWindows = fmt.Errorf("block CIMs are written on Windows only: %w", errdefs.ErrNotImplemented)

// Library is what block CIMs are written with on Windows; here it is an
// errdefs.ErrNotImplemented.
func Library() (Writer, error) { return Writer{}, errNotWindows }

func supported() error { return errNotWindows }

func (order) write(context.Context, io.Reader) (written, error) { return written{}, errNotWindows }

func runBound(*exec.Cmd) error { return errNotWindows }
