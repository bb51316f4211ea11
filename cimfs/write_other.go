//go:build !windows

package cimfs

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
)

const canWrite = false

var errNotWindows = fmt.Errorf("block CIMs are written on Windows only: %w", errdefs.ErrNotImplemented)

func (order) write(context.Context, io.Reader) (written, error) { return written{}, errNotWindows }
