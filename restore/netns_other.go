//go:build !linux

package restore

import "github.com/containerd/errdefs"

func newNetNS(string) error { return errdefs.ErrNotImplemented }

func isNetNS(string) (bool, error) { return false, errdefs.ErrNotImplemented }

func removeNetNS(string) error { return errdefs.ErrNotImplemented }
