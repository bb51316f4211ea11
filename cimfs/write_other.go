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

func (order) write(context.Context, io.Reader) (written, error) { return written{}, errNotWindows }

// checkSDDL knows nothing here: Windows alone reads such a text.
func checkSDDL(string) error { return nil }

func runBound(*exec.Cmd) error { return errNotWindows }
