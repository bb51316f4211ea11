//go:build !linux

package convert

import "errors"

func nameless(string) (*scratch, error) { return nil, errors.ErrUnsupported }
