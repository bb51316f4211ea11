//go:build !linux

package registry

import (
	"errors"
	"os"
)

func link(*os.File, *os.Root, string) error { return errors.ErrUnsupported }
