//go:build !linux && !windows

package convert

import "errors"

func nameless(string) (*Scratch, error) { return nil, errors.ErrUnsupported }
