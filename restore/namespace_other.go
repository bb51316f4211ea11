//go:build !linux

package restore

import (
	"context"
	"net"

	"github.com/containerd/errdefs"
)

func rename(*held, string) error { return errdefs.ErrNotImplemented }

func loopback(*held) error { return errdefs.ErrNotImplemented }

func dial(context.Context, *held, string) (net.Conn, error) { return nil, errdefs.ErrNotImplemented }
