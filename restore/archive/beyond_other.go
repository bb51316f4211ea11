//go:build !linux

package archive

import "github.com/opencontainers/runtime-spec/specs-go"

// Beyond says that nothing can be restored here: there is no CRIU.
func (Rights) Beyond(*specs.Spec) []string { return []string{"this is not Linux"} }
