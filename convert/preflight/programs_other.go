//go:build !linux

package preflight

// Containers are checkpointed and restored on Linux alone.
var (
	nearDaemon []probe
	cni        probe
)
